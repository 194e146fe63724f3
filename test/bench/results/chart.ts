/** Pictures for docs/results: a Vega-Lite specification as SVG text, without a browser. */
import { parse, View } from 'vega'
import { compile, type Config, type TopLevelSpec } from 'vega-lite'

/** @throws {Error} Vega-Lite does not accept the specification */
export async function renderSvg(spec: TopLevelSpec): Promise<string> {
  const view = new View(parse(compile(spec).spec), { renderer: 'none' })
  try {
    return `${await view.toSVG()}\n`
  } finally {
    view.finalize()
  }
}

/** White, so that the axes show on a dark page; colours that colour-blind readers can distinguish. */
export const CHART_CONFIG: Config = {
  background: 'white',
  font: 'sans-serif',
  view: { stroke: null },
  axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: 'normal' },
  header: { labelFontSize: 13, labelFontWeight: 'bold' },
  legend: { labelFontSize: 11 },
  range: {
    category: [
      '#000000',
      '#999999',
      '#56B4E9',
      '#009E73',
      '#CC79A7',
      '#E69F00',
      '#0072B2',
      '#D55E00',
    ],
  },
}
