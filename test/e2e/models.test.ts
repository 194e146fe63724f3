/** `npm start` with two real models, each with a runner of its own. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { startStack, until, type Stack } from '../fixtures/stack.ts'

const MODELS = ['smollm2-135m-instruct', 'gemma-3-270m'] as const
const RESTART_TIMEOUT_MS = 60_000

let stack: Stack
beforeAll(async () => {
  stack = await startStack({ env: { ARCANA_MODELS: MODELS.join(',') } })
})
afterAll(async () => {
  await stack.stop()
})

async function ask(path: string, body?: object): Promise<{ status: number; body: unknown }> {
  const response = await fetch(new URL(path, stack.baseUrl), {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: await response.json() }
}

type Health = { models: { id: string; ready_runners: number }[] }

const readyRunners = async (): Promise<number[]> => {
  const { models } = (await ask('/healthz')).body as Health
  return models.map(({ ready_runners: numReady }) => numReady)
}

type Completion = { model: string; choices: { text: string }[] }

async function complete(model: string): Promise<{ status: number; body: Completion }> {
  const prompt = 'The capital of France is'
  const answer = await ask('/v1/completions', { model, prompt, max_tokens: 8, temperature: 0 })
  return { status: answer.status, body: answer.body as Completion }
}

describe('one gateway in front of two models', () => {
  it('lists both, answers by each, and starts a runner again that dies', async ({ expect }) => {
    const list = (await ask('/v1/models')).body as { data: { id: string }[] }
    expect(list.data.map(({ id }) => id)).toEqual(MODELS)
    expect(await readyRunners()).toEqual([1, 1])
    const answers = await Promise.all(MODELS.map(complete))
    for (const [i, { status, body }] of answers.entries()) {
      expect([status, body.model]).toEqual([200, MODELS[i]])
    }
    // The same greedy question; equal answers would mean that one model gave both.
    expect(answers[0]!.body.choices[0]!.text).not.toBe(answers[1]!.body.choices[0]!.text)
    expect((await complete('no-such-model')).status).toBe(404)

    const pids = JSON.parse(
      await readFile(join(stack.home, 'run', 'processes.json'), 'utf8'),
    ) as Record<string, number>
    process.kill(pids['runner-local-2']!, 'SIGKILL')
    await until(
      'its runner is missed',
      async () => (await readyRunners())[1] === 0,
      RESTART_TIMEOUT_MS,
    )
    // The other model is not affected.
    expect((await complete(MODELS[0])).status).toBe(200)
    await until('it is back', async () => (await readyRunners())[1] === 1, RESTART_TIMEOUT_MS)
    expect((await complete(MODELS[1])).body).toMatchObject({
      choices: [{ text: answers[1]!.body.choices[0]!.text }],
    })
  })
})
