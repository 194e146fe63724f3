import { describe, it } from 'vitest'
import { CHART_CONFIG, renderSvg } from './chart.ts'

describe('renderSvg', () => {
  it('draws one line per series and the axes, without a browser', async ({ expect }) => {
    const svg = await renderSvg({
      $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
      config: CHART_CONFIG,
      data: {
        values: [
          { x: 4, y: 0.5, column: 'base' },
          { x: 8, y: 0.5, column: 'base' },
          { x: 4, y: 0.6, column: 'auto' },
          { x: 8, y: 0.7, column: 'auto' },
        ],
      },
      mark: 'line',
      encoding: {
        x: { field: 'x', type: 'quantitative', title: 'training examples' },
        y: { field: 'y', type: 'quantitative' },
        color: { field: 'column', type: 'nominal' },
      },
    })
    expect(svg.startsWith('<svg ')).toBe(true)
    expect(svg.match(/aria-roledescription="line mark"/g)).toHaveLength(2)
    expect(svg).toContain('training examples')
  })
})
