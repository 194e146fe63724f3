import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'vitest'
import { LABELS, readNews, splitNews, toJsonLines } from '../../src/cli/demo/news.ts'
import { formatOutcomes } from '../../src/cli/demo/print.ts'
import { accuracyOf, bestLabel, confusionOf, labelBias } from '../../src/cli/demo/score.ts'
import { freePort } from '../fixtures/stack.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/demo/main.ts', import.meta.url))

describe('the news lines', () => {
  it('are about a hundred, distinct, at least 25 a class', async ({ expect }) => {
    const lines = await readNews()
    expect(new Set(lines.map(({ input }) => input)).size).toBe(lines.length)
    for (const label of LABELS) {
      expect(lines.filter((line) => line.label === label).length).toBeGreaterThanOrEqual(25)
    }
    expect(lines.every(({ input, label }) => input.length > 40 && LABELS.includes(label))).toBe(
      true,
    )
  })

  it('are split into a few per class and the rest', async ({ expect }) => {
    const lines = await readNews()
    const { training, test } = splitNews(lines, 5)
    for (const label of LABELS) {
      expect(training.filter((line) => line.label === label)).toHaveLength(5)
    }
    expect(new Set([...training, ...test])).toEqual(new Set(lines))
    expect(training.length + test.length).toBe(lines.length)
    expect(toJsonLines(training).trim().split('\n')).toHaveLength(20)
  })
})

describe('the scores', () => {
  it('count answers by right label, and give the share on the diagonal', ({ expect }) => {
    const confusion = confusionOf([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 2)
    expect(confusion).toEqual([
      [1, 1],
      [1, 2],
    ])
    expect(accuracyOf(confusion)).toBe(0.6)
  })

  it('remove a preference for one label by calibration', ({ expect }) => {
    // Label 0 is always ahead by two, whatever the input says.
    const logProbs = [
      [0, -1],
      [0, -3],
    ]
    const bias = labelBias(logProbs)
    expect(bias).toEqual([-0, 2])
    expect(logProbs.map((row) => bestLabel(row, [0, 0]))).toEqual([0, 0])
    expect(logProbs.map((row) => bestLabel(row, bias))).toEqual([1, 0])
  })

  it('print in columns of equal width', ({ expect }) => {
    const confusion = [
      [3, 1],
      [0, 4],
    ]
    const text = formatOutcomes(
      [
        { name: 'base', confusion },
        { name: 'adapter', confusion },
      ],
      ['World', 'Sports'],
    )
    expect(text.split('\n').slice(3)).toEqual([
      '  rows: right label, columns: answer',
      '  base            adapter',
      '       Wor  Spo        Wor  Spo',
      '  Wor    3    1   Wor    3    1',
      '  Spo    0    4   Spo    0    4',
    ])
    expect(text).toContain('  base     0.875  ')
  })
})

describe('npm run demo without a server', () => {
  it('says what to do, without a stack trace', async ({ expect }) => {
    const port = String(await freePort())
    const run = (env: NodeJS.ProcessEnv) =>
      spawnSync(process.execPath, [MAIN], { env, encoding: 'utf8', timeout: 20_000 })
    const noKey = run({ ARCANA_HOME: '/nonexistent' })
    expect(noKey.status).toBe(1)
    expect(noKey.stderr).toMatch(/^demo: no key at \/nonexistent\/key: run `npm start`.*\n$/)
    const noServer = run({ ARCANA_API_KEY: 'sk-something', PORT: port })
    expect(noServer.status).toBe(1)
    expect(noServer.stderr).toMatch(
      new RegExp(`^demo: nothing answers at http://127.0.0.1:${port}/v1 \\(ECONNREFUSED\\): .*\n$`),
    )
  })
})
