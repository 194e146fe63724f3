/** Time to a prompt's first token, cold and with its prefix kept from an earlier request. */
import { generate, openTestRunner } from '../fixtures/runner.ts'
import type { GenerateRequest } from '../../src/protocol/runner.ts'
import { median } from './engine/statistics.ts'

const PROMPT_LEN = 512
const NUM_REPETITIONS = 12

export async function run(): Promise<void> {
  const runner = await openTestRunner({ prefixCacheBytes: 2 ** 31 })
  const { tokenizer } = runner.context
  const wordsFor = (numWords: number, name: string) => `${name}:${' river'.repeat(numWords)}`
  const lengthOf = (content: string) => tokenizer.encodeChat([{ role: 'user', content }]).length
  const firstTokenMs = async (content: string, tenant: string): Promise<number> => {
    const wire: GenerateRequest = {
      request_id: 'bench',
      tenant,
      messages: [{ role: 'user', content }],
      arms: [{ adapters: [], scope: 'generated' }],
      sampling: { max_tokens: 1, temperature: 0, top_p: 1, stop: [] },
    }
    return (await generate(runner, wire)).find((event) => event.event === 'end')!.first_token_ms
  }
  const overhead = lengthOf(wordsFor(0, '10'))
  const times = { cold: [] as number[], whole: [] as number[], chunks: [] as number[] }
  for (let i = 0; i < NUM_REPETITIONS; i++) {
    const content = wordsFor(PROMPT_LEN - overhead, String(10 + i))
    if (lengthOf(content) !== PROMPT_LEN) throw new Error(`${lengthOf(content)} tokens`)
    times.cold.push(await firstTokenMs(content, `t${i}`))
    times.whole.push(await firstTokenMs(content, `t${i}`))
    // The last word differs, so its chunk is computed again.
    times.chunks.push(await firstTokenMs(content.replace(/river$/, 'stone'), `t${i}`))
  }
  const cold = median(times.cold)
  for (const [name, values] of Object.entries(times)) {
    console.log(
      JSON.stringify({
        figure: `first token of a ${PROMPT_LEN}-token prompt, ${name}`,
        median_ms: Math.round(median(values) * 10) / 10,
        times_faster_than_cold: Math.round((cold / median(values)) * 10) / 10,
      }),
    )
  }
  await runner.release()
}
