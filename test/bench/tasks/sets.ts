import { createHash } from 'node:crypto'
import { readSharedRows } from '../../fixtures/runner.ts'

/** How a labelled set is put to the model. */
export type TaskSet = {
  readonly instructions: string
  /** What the model is to say for each label of the data, in the order of the classes. */
  readonly words: Readonly<Record<string, string>>
  /** What stands around an input in the user's message. */
  readonly template?: (input: string) => string
}

const same = (...labels: readonly string[]): Record<string, string> =>
  Object.fromEntries(labels.map((label) => [label, label]))

/**
 * Instructions and label words of each set, fixed before anything was measured. Unless the project had
 * earlier instructions, they are the set's own (`meta.json`) with its labels named.
 */
export const TASK_SETS: Readonly<Record<string, TaskSet>> = {
  ag_news: {
    instructions:
      'You are a news classifier. Answer with the category only: World, Sports, Business or Science.',
    words: same('World', 'Sports', 'Business', 'Science'),
  },
  sst2: {
    instructions: 'Classify the sentiment of the sentence. Answer with negative or positive only.',
    words: same('negative', 'positive'),
  },
  sms_spam: {
    instructions: 'Is the message spam or ham? Answer with spam or ham only.',
    words: same('ham', 'spam'),
  },
  tweet_hate: {
    instructions: 'Is the tweet hateful? Answer with yes or no only.',
    words: { 'not hate': 'no', hate: 'yes' },
  },
  tweet_offensive: {
    instructions: 'Is the tweet offensive? Answer with yes or no only.',
    words: { 'not offensive': 'no', offensive: 'yes' },
  },
  tweet_irony: {
    instructions: 'Is the tweet ironic? Answer with yes or no only.',
    words: { 'not irony': 'no', irony: 'yes' },
  },
  cola: {
    instructions:
      'Is this sentence grammatically acceptable or unacceptable? Answer with acceptable or unacceptable only.',
    words: same('acceptable', 'unacceptable'),
  },
  rte: {
    instructions: 'Does the premise entail the hypothesis? Answer with yes or no only.',
    words: { entailment: 'yes', 'not entailment': 'no' },
  },
  entailed_polarity: {
    instructions: 'Follow the instructions below and answer with Yes / No.',
    words: { yes: 'Yes', no: 'No' },
  },
  navigate: { instructions: 'Answer True or False.', words: same('True', 'False') },
  winowhy: {
    instructions:
      'Please answer the following questions about which words certain pronouns refer to. Answer with correct or incorrect only.',
    words: same('correct', 'incorrect'),
  },
  color: {
    instructions:
      'Choose the color from: black, blue, brown, gray, green, orange, purple, red, white, yellow.',
    words: same(
      'black',
      'blue',
      'brown',
      'gray',
      'green',
      'orange',
      'purple',
      'red',
      'white',
      'yellow',
    ),
  },
}

export type Row = { readonly input: string; readonly word: string }

/** The first `limit` rows of a split as the model sees them; null where this checkout has no data. */
export function readRows(name: string, split: string, limit = Infinity): Row[] | null {
  const set = TASK_SETS[name]
  if (set === undefined) {
    throw new Error(`no set "${name}"; one of ${Object.keys(TASK_SETS).join(', ')}`)
  }
  const rows = readSharedRows(name, split)
  if (rows === null) return null
  return rows.slice(0, limit).map(({ input, label }) => {
    const word = set.words[label]
    if (word === undefined) throw new Error(`${name} has a row labelled ${label}`)
    return { input: set.template?.(input) ?? input, word }
  })
}

/** SHA-256 of rows in their order, hexadecimal: tells whether two columns are of the same ones. */
export const digestRows = (rows: readonly Row[]): string =>
  createHash('sha256')
    .update(JSON.stringify(rows.map(({ input, word }) => [input, word])))
    .digest('hex')
