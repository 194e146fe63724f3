/** Writes the input of lora/fit.py: the benchmark's draws, prompts as token ids, label tries and folds. */
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { countFolds, stratifiedFolds } from '../../../adapters/optimise/gradient/folds.ts'
import { labelPath } from '../../../adapters/objective/label-trie.ts'
import { modelPath } from '../../fixtures/model.ts'
import { drawBalanced, goldOf } from '../tasks/draw.ts'
import { HiddenStates } from '../tasks/hidden-states.ts'
import { digestRows, readRows, TASK_SETS, type Row } from '../tasks/sets.ts'
import type { Setting } from '../tasks/store.ts'

/** Writes `SET.json` per set. It holds tokenised rows, so do not commit it. */
export async function exportForLora(settings: readonly Setting[], folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const hidden = await HiddenStates.open()
  try {
    for (const [set, own] of Map.groupBy(settings, (setting) => setting.set)) {
      const { split, num_rows, num_train } = own[0]!
      const pool = readRows(set, 'train')
      const test = readRows(set, split, num_rows)
      if (pool === null || test === null) {
        console.log(`skipped: ../shared/data/${set} is not beside this checkout`)
        continue
      }
      const { instructions, words: wordOf } = TASK_SETS[set]!
      const words = Object.values(wordOf)
      const encode = (rows: readonly Row[]) => ({
        prompts: rows.map(({ input }) =>
          hidden.encode(instructions, [{ role: 'user', content: input }]),
        ),
        gold: goldOf(rows, words),
      })
      const trie = hidden.trieOf(words)
      const content = {
        set,
        split,
        num_rows,
        num_train,
        rows_digest: digestRows(test),
        gguf: await modelPath(),
        // Log P(label): the sum over its path's steps of log softmax over the children, at `gold`.
        label_paths: words.map((_, label) => labelPath(trie, label)),
        test: encode(test),
        seeds: own.map(({ seed }) => {
          const train = encode(drawBalanced(pool, words, seed, num_train))
          const numFolds = countFolds(train.gold.map((_, i) => i))
          return { seed, train, folds: stratifiedFolds(train.gold, numFolds, seed) }
        }),
      }
      const file = path.join(folder, `${set}.json`)
      writeFileSync(file, JSON.stringify(content))
      console.log(file)
    }
  } finally {
    hidden.release()
  }
}
