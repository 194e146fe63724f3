import { pairedDifference, type PairedDifference } from '../../../adapters/statistics/paired.ts'
import { mean, round } from '../tasks/summary.ts'
import { head, row, short } from '../tasks/table.ts'
import type { Column } from './measure.ts'
import type { GenerationSet, Prompt } from './sets.ts'
import { distinctPairs, hidePrompt } from './text.ts'

export type JobSummary = {
  /** The optimiser that the requested one resolved to. */
  readonly optimizer: string
  readonly seconds: number
  readonly outcome: string
  /** Out of fold, in the grader's unit. */
  readonly gain: number | null
  readonly p_value: number | null
  readonly rounds: readonly { readonly drawn: number | null; readonly held_out: number }[] | null
  readonly chosen_round: number | null
}

type Figures = {
  readonly grade: number
  readonly second_grade: number
  /** e to the mean negative log probability of a token under the base model. */
  readonly perplexity: number
  readonly distinct_pairs: number
  readonly mean_tokens: number
}

/** A column less the base, by prompts, with 95% intervals; of perplexity the difference is in nats a token. */
type Differences = Readonly<Record<'grade' | 'second_grade' | 'nats', PairedDifference>>

export type SetSummary = {
  readonly set: string
  readonly title: string
  readonly instructions: string
  readonly asked: string
  readonly grader: GenerationSet['grader']
  readonly num_rows: number
  readonly columns: Readonly<Record<string, Figures>>
  readonly differences: Readonly<Record<string, Differences>>
  readonly jobs: Readonly<Record<string, JobSummary>>
  /** Only continuations; the prompt is named by its row. */
  readonly samples: readonly {
    readonly row: number
    readonly texts: Readonly<Record<string, { readonly text: string; readonly grade: number }>>
  }[]
}

export type GenerationSetting = {
  readonly split: string
  readonly seed: number
  readonly num_train: number
  readonly max_tokens: number
  readonly temperature: number
  readonly num_grader_rows: number
}

export function summariseSet(measured: {
  readonly name: string
  readonly set: GenerationSet
  readonly prompts: readonly Prompt[]
  readonly columns: Readonly<Record<string, Column>>
  readonly jobs: Readonly<Record<string, JobSummary>>
  readonly numSamples: number
}): SetSummary {
  const { name, set, prompts, columns, jobs, numSamples } = measured
  const names = Object.keys(columns)
  const base = columns['base']!
  return {
    set: name,
    title: set.title,
    instructions: set.instructions,
    asked: set.asked,
    grader: set.grader,
    num_rows: prompts.length,
    columns: Object.fromEntries(names.map((own) => [own, figuresOf(columns[own]!)])),
    differences: Object.fromEntries(
      names.filter((own) => own !== 'base').map((own) => [own, differencesOf(base, columns[own]!)]),
    ),
    jobs,
    samples: prompts.slice(0, numSamples).map((prompt, i) => ({
      row: prompt.row,
      texts: Object.fromEntries(
        names.map((own) => {
          const { continuations, grades } = columns[own]!
          const text = hidePrompt(continuations[i]!.text, prompt.input)
          return [own, { text, grade: round(grades[i]!) }]
        }),
      ),
    })),
  }
}

function figuresOf({ continuations, grades, secondGrades, logProbs, sizes }: Column): Figures {
  const numTokens = sum(sizes)
  return {
    grade: round(mean(grades)),
    second_grade: round(mean(secondGrades)),
    perplexity: Number(Math.exp(-sum(logProbs) / numTokens).toFixed(2)),
    distinct_pairs: round(distinctPairs(continuations.map(({ text }) => text))),
    mean_tokens: Number(mean(continuations.map((own) => own.numTokens)).toFixed(1)),
  }
}

/** Texts of different lengths have each their own mean; those without a token are left out. */
function differencesOf(base: Column, own: Column): Differences {
  const both = base.sizes.flatMap((size, i) => (size > 0 && own.sizes[i]! > 0 ? [i] : []))
  const natsOf = ({ logProbs, sizes }: Column) => both.map((i) => -logProbs[i]! / sizes[i]!)
  return {
    grade: pairedDifference(base.grades, own.grades),
    second_grade: pairedDifference(base.secondGrades, own.secondGrades),
    nats: pairedDifference(natsOf(base), natsOf(own)),
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

export function toMarkdown(sets: readonly SetSummary[], setting: GenerationSetting): string {
  const { split, seed, num_train, max_tokens, temperature, num_grader_rows } = setting
  return [
    '# Generation by a grader',
    '',
    `Jobs with a task as their grader, from ${num_train} training prompts; measured on the first ${sets[0]!.num_rows} ${split} prompts, at most ${max_tokens} tokens at temperature ${temperature}, seed ${seed}, one seed a prompt for all columns. The grader is a task fitted by \`gradient\` to ${num_grader_rows} training rows; the second judge is one fitted to other rows, which no job asked. \`asked\` is the base model whose instructions ask outright for what the grader likes; the other columns have neutral ones. Perplexity is the base model’s own, of each column’s texts after the neutral prompt; distinct pairs are the share of word pairs that occur once only or first.`,
    '',
    ...sets.flatMap(sectionOf),
  ].join('\n')
}

function sectionOf(summary: SetSummary): string[] {
  const { set, title, grader, columns, differences, jobs, samples } = summary
  const names = Object.keys(columns)
  const interval = ({ mean: value, low, high }: PairedDifference): string =>
    `${signed(value)} (${signed(low)} to ${signed(high)})`
  return [
    `## ${title} (${set})`,
    '',
    `Grade: the probability that a ${grader.set} task answers “${grader.label}”. Neutral instructions: “${summary.instructions}” Asked: “${summary.asked}”`,
    '',
    ...head([
      'column',
      'mean grade',
      'second judge',
      'perplexity under base',
      'distinct pairs',
      'tokens',
    ]),
    ...names.map((name) => {
      const own = columns[name]!
      return row([
        name,
        short(own.grade),
        short(own.second_grade),
        own.perplexity.toFixed(1),
        short(own.distinct_pairs),
        own.mean_tokens.toFixed(1),
      ])
    }),
    '',
    'Less the base, paired by prompts, 95% interval:',
    '',
    ...head(['column', 'mean grade', 'second judge', 'nats a token under base']),
    ...Object.entries(differences).map(([name, own]) =>
      row([name, interval(own.grade), interval(own.second_grade), interval(own.nats)]),
    ),
    '',
    ...head(['job', 'is', 'seconds', 'guard', 'out-of-fold gain', 'p', 'held-out score by rounds']),
    ...Object.entries(jobs).map(([name, job]) =>
      row([
        name,
        job.optimizer,
        job.seconds,
        job.outcome,
        job.gain === null ? '' : signed(job.gain),
        job.p_value === null ? '' : job.p_value.toPrecision(2),
        job.rounds?.map(({ held_out }) => short(held_out)).join(', ') ?? '',
      ]),
    ),
    '',
    'The first prompts’ continuations, by row; words repeated from the prompt are left out ([…]). The grade is in brackets.',
    '',
    ...head(['row', ...names]),
    ...samples.map((sample) =>
      row([
        sample.row,
        ...names.map((name) => {
          const { text, grade } = sample.texts[name]!
          return `${escapeCell(text)} (${grade.toFixed(2)})`
        }),
      ]),
    ),
    '',
  ]
}

const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`

/** Escapes a model's text for Markdown. */
const escapeCell = (text: string): string =>
  text.replace(/\s+/g, ' ').replace(/[\\`*_{}[\]<>()#|~]/g, (character) => `\\${character}`)
