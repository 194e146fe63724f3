/**
 * Compares the runner with llama.cpp on the same GGUF, with two threads each, in turns. Every
 * target is a process of its own, asked over HTTP; this process notes when tokens arrive. Arguments
 * name the figures to measure; without arguments it measures all, which takes some minutes.
 */
import { FIGURES } from './engine/figures.ts'
import { Lab } from './engine/lab.ts'
import type { Summary } from './engine/compare.ts'

export async function run(names: readonly string[]): Promise<void> {
  const unknown = names.find((name) => !Object.hasOwn(FIGURES, name))
  if (unknown !== undefined) {
    throw new Error(`no figure "${unknown}"; there are: ${Object.keys(FIGURES).join(', ')}`)
  }
  const lab = await Lab.open()
  const summaries: Summary[] = []
  try {
    for (const [name, measure] of Object.entries(FIGURES)) {
      if (names.length > 0 && !names.includes(name)) continue
      try {
        summaries.push(...(await measure(lab)))
      } catch (error) {
        // The other figures are still useful.
        console.log(JSON.stringify({ figure: name, failed: String(error) }))
        process.exitCode = 1
      }
    }
  } finally {
    await lab.close()
  }
  const byFigure = summaries.map(({ figure, ...rest }) => [figure, rest] as const)
  console.table(Object.fromEntries(byFigure))
}
