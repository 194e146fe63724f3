/** lm-evaluation-harness itself against the real gateway and the real model. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import type { Completion } from '../../src/protocol/openai/completions.ts'
import { callerOf } from '../bench/damage.ts'
import { randomRotationBytes } from '../fixtures/adapter-bytes.ts'
import { needs } from '../fixtures/needs.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'

/** A Python with test/harness/requirements.txt installed. Without it this file is skipped and says so. */
const python = process.env['ARCANA_LM_EVAL_PYTHON']
if (python === undefined) {
  console.warn(
    'lm-evaluation-harness is not tested: ARCANA_LM_EVAL_PYTHON names no Python that has it',
  )
}

const BASE = 'smollm2-135m-instruct'
const TASK = 'turned'
const CHOICES = ['World', 'Sports', 'Business']

/** Per choice of a row, as text: the log likelihood and whether it is greedy. */
type Sample = {
  readonly doc: { readonly text: string }
  readonly filtered_resps: readonly (readonly [string, string])[]
}

describe('lm-evaluation-harness', needs('ARCANA_LM_EVAL_PYTHON', python !== undefined), () => {
  let folder: string
  let stack: Stack
  let call: ReturnType<typeof callerOf>
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'arcana-lm-eval-'))
    stack = await startStack()
    call = callerOf(stack.baseUrl, stack.apiKey)
    const form = new FormData()
    form.set('file', new Blob([(await randomRotationBytes(5)).bytes]), 'adapter')
    await call(`/tasks/${TASK}/versions`, form)
  })
  afterAll(async () => {
    await (stack as Stack | undefined)?.stop()
    await rm(folder, { recursive: true, force: true })
  })

  async function evaluate(kind: string, model: string, extra = ''): Promise<Sample[]> {
    const out = join(folder, `${kind}-${Math.random()}`)
    const args = [
      'test/harness/arcana_lm_eval.py',
      ...[
        '--model',
        kind,
        '--tasks',
        'made_up',
        '--include_path',
        'test/harness',
        '--batch_size',
        '6',
      ],
      ...['--output_path', out, '--log_samples', '--model_args'],
      `model=${model},base_url=${stack.baseUrl}/completions,tokenizer_backend=remote,` +
        `auth_token=${stack.apiKey}${extra}`,
    ]
    const child = spawn(python!, args, {
      env: {
        ...process.env,
        OPENAI_API_KEY: stack.apiKey,
        HF_HUB_OFFLINE: '1',
        HF_HOME: join(folder, 'hf'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (said += text))
    }
    const [code] = (await once(child, 'close')) as [number]
    if (code !== 0) throw new Error(`lm_eval ended with ${code}\n${said.slice(-8000)}`)
    const files = await readdir(out, { recursive: true })
    const samples = files.find((name) => name.includes('samples_'))
    if (samples === undefined) throw new Error(`no samples\n${said.slice(-8000)}`)
    const lines = (await readFile(join(out, samples), 'utf8')).trim().split('\n')
    return lines.map((line) => JSON.parse(line) as Sample)
  }

  const scoresOf = (samples: readonly Sample[]) =>
    samples.map(({ filtered_resps: choices }) => choices.map(([value]) => Number(value)))

  /** The same from our own call. */
  async function score({ doc }: Sample, choice: number, model: string): Promise<number> {
    const context = `Headline: ${doc.text} Section:`
    const tokensOf = async (prompt: string) =>
      (
        (await (
          await fetch(`${stack.baseUrl.replace('/v1', '')}/tokenize`, {
            method: 'POST',
            headers: {
              authorization: `Bearer ${stack.apiKey}`,
              'content-type': 'application/json',
            },
            body: JSON.stringify({ prompt }),
          })
        ).json()) as { tokens: number[] }
      ).tokens
    const { length } = await tokensOf(context)
    const { choices } = (await call('/completions', {
      model,
      prompt: `${context} ${CHOICES[choice]!}`,
      max_tokens: 0,
      echo: true,
      logprobs: 0,
      ...(model === BASE ? {} : { rotate_from: length - 1 }),
    })) as Completion
    const logprobs = choices[0]!.logprobs!.token_logprobs.slice(length)
    return logprobs.reduce<number>((sum, value) => sum + value!, 0)
  }

  it('scores the base model equally by ids and by text', async ({ expect }) => {
    const byIds = await evaluate('local-completions', BASE)
    expect(byIds).toHaveLength(6)
    const byText = await evaluate('local-completions', BASE, ',tokenized_requests=False')
    expect(scoresOf(byText)).toEqual(scoresOf(byIds))
    const [first] = byIds
    for (const choice of CHOICES.keys()) {
      expect(Number(first!.filtered_resps[choice]![0])).toBeCloseTo(
        await score(first!, choice, BASE),
        4,
      )
    }
  })

  it('scores a task with its adapter on each answer', async ({ expect }) => {
    const model = `${BASE}:${TASK}`
    const turned = await evaluate('arcana-completions', model)
    const [first] = turned
    for (const choice of CHOICES.keys()) {
      const [own, base] = [await score(first!, choice, model), await score(first!, choice, BASE)]
      expect(Number(first!.filtered_resps[choice]![0])).toBeCloseTo(own, 4)
      expect(Math.abs(own - base)).toBeGreaterThan(1e-3)
    }
  })
})
