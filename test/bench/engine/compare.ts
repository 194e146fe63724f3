import { median, round } from './statistics.ts'

/** Goal of a figure: the speed of the first arm over that of the best other arm. */
export type Bar = { readonly atLeast: number; readonly aim: number }

export type Arm = {
  readonly name: string
  /** @returns a figure; higher is better */
  readonly measure: (round: number) => Promise<number>
}

/** One line of the table at the end. */
export type Summary = Record<string, string | number>

/**
 * Measures arms in rounds, A B C, then B C A and so on, so that a change in the machine's speed
 * affects all arms alike. Prints a JSON line. Ratios are of the first arm to the best of the others.
 */
export async function compare(
  figure: string,
  unit: string,
  arms: readonly Arm[],
  numRounds: number,
  bar: Bar | null = null,
): Promise<Summary> {
  const values = arms.map((): number[] => [])
  for (let turn = 0; turn < numRounds; turn++) {
    for (let place = 0; place < arms.length; place++) {
      const index = (place + turn) % arms.length
      values[index]!.push(await arms[index]!.measure(turn))
    }
  }
  const medians = values.map(median)
  const spread = Object.fromEntries(
    arms.map(({ name }, index) => [
      name,
      {
        median: round(medians[index]!),
        least: round(Math.min(...values[index]!)),
        most: round(Math.max(...values[index]!)),
      },
    ]),
  )
  const others = medians.slice(1)
  const best = others.length === 0 ? null : 1 + others.indexOf(Math.max(...others))
  const ratios =
    best === null
      ? {}
      : {
          against: arms[best]!.name,
          ratio_of_medians: round(medians[0]! / medians[best]!),
          median_of_paired_ratios: round(
            median(values[0]!.map((value, turn) => value / values[best]![turn]!)),
          ),
        }
  const bounds = bar === null ? {} : { at_least: bar.atLeast, aim: bar.aim }
  console.log(JSON.stringify({ figure, unit, rounds: numRounds, ...spread, ...ratios, ...bounds }))
  return {
    figure,
    unit,
    [arms[0]!.name === 'arcana' ? 'arcana' : 'value']: round(medians[0]!),
    ...(best === null ? {} : { other: round(medians[best]!) }),
    ...ratios,
    ...bounds,
  }
}
