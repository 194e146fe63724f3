/** Each way in which the stub runner misbehaves on command, by name. */
import type { ServerResponse } from 'node:http'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { RunnerError } from '../../../src/protocol/runner.ts'
import { APPLIED, STATUS } from '../../fixtures/stub-status.ts'
import { accepted, DONE, end, lineOf, tokens, wordsFor } from './stub-model.ts'

type Misbehave = (response: ServerResponse, sent: string) => Promise<void> | void

const PACE_MS = 100
const CHUNK_BYTES = 1 << 16
export const RETRY_SECONDS = 7
const OTHER_DIGEST = 'c'.repeat(64)
/** Proofs of something that no request here asks for. */
const OTHER_ADAPTER = { ...APPLIED, adapters: [{ digest: OTHER_DIGEST, weight: 1 }] }
const OTHER_MODEL = { ...APPLIED, model_digest: OTHER_DIGEST }

const whole = (sent: string) => [accepted(), ...tokens(wordsFor(sent)), end(), DONE]
const lines = (events: readonly unknown[]) => events.map(lineOf).join('')
/** The admission and two tokens. */
const part = (sent: string) => lines([accepted(), ...tokens(wordsFor(sent).slice(0, 2))])
/** Sends texts or bytes, and ends. */
const says =
  (make: (sent: string) => string | Uint8Array): Misbehave =>
  (response, sent) => {
    response.end(make(sent))
  }
/** Sends texts one after the other, each in a packet of its own where `beforeEach` waits. */
const saysSlowly =
  (make: (sent: string) => readonly string[], beforeEach: () => Promise<unknown>): Misbehave =>
  async (response, sent) => {
    for (const text of make(sent)) {
      await beforeEach()
      if (response.destroyed) return
      response.write(text)
    }
    response.end()
  }
const replaces = (index: number, make: (line: string) => string) =>
  says((sent) =>
    whole(sent)
      .map((event, i) => (i === index ? make(lineOf(event)) : lineOf(event)))
      .join(''),
  )
const answers =
  (status: number, body: string, headers: Record<string, string> = {}): Misbehave =>
  (response) => {
    response.writeHead(status, headers).end(body)
  }
const refuses = (status: number, error: Omit<RunnerError, 'message'>) =>
  answers(status, JSON.stringify({ error: { ...error, message: 'the stub refuses' } }))
const afterPart =
  (make: (sent: string) => string | Uint8Array): Misbehave =>
  async (response, sent) => {
    response.write(part(sent))
    await sleep(PACE_MS)
    response.end(make(sent))
  }
const END_INDEX = -2

export const GENERATE_FAULTS = {
  none: says((sent) => lines(whole(sent))),
  hold: () => undefined,
  'hold in mid-answer': (response, sent) => {
    response.write(part(sent))
  },
  paced: saysSlowly(
    (sent) => whole(sent).map(lineOf),
    () => sleep(PACE_MS),
  ),
  'byte by byte': saysSlowly((sent) => Array.from(lines(whole(sent))), nextTurn),
  reset: (response) => {
    response.destroy()
  },
  'reset in mid-answer': async (response, sent) => {
    response.write(part(sent))
    await sleep(PACE_MS)
    response.destroy()
  },
  'empty answer': says(() => ''),
  'garbage first': says(() => '<html>hello</html>\n'),
  'garbage in mid-answer': afterPart(() => '<html>hello</html>\n'),
  'truncated line': afterPart(() => lineOf(accepted()).slice(0, 20)),
  'endless line': async (response, sent) => {
    response.write(part(sent))
    while (!response.destroyed) {
      if (!response.write('x'.repeat(CHUNK_BYTES))) await sleep(1)
    }
  },
  'not UTF-8': afterPart(() => Uint8Array.of(0x22, 0xff, 0xfe, 0x22, 0x0a)),
  'NaN first': replaces(0, (line) => line.replace(/"prompt_tokens":\d+/, '"prompt_tokens":NaN')),
  'null for a number first': replaces(0, (line) =>
    line.replace(/"prompt_tokens":\d+/, '"prompt_tokens":null'),
  ),
  'NaN in the end frame': afterPart(() => endLine('"total_ms":2', '"total_ms":NaN')),
  'null in the end frame': afterPart(() => endLine('"total_ms":2', '"total_ms":null')),
  '1e999 in the end frame': afterPart(() => endLine('"total_ms":2', '"total_ms":1e999')),
  'proof of another adapter': says((sent) =>
    lines([accepted(OTHER_ADAPTER), ...whole(sent).slice(1)]),
  ),
  'proof that changes model': says((sent) =>
    lines([...whole(sent).slice(0, END_INDEX), end(undefined, OTHER_MODEL), DONE]),
  ),
  'proof that changes adapter': says((sent) =>
    lines([...whole(sent).slice(0, END_INDEX), end(undefined, OTHER_ADAPTER), DONE]),
  ),
  'no admission': says((sent) => lines(whole(sent).slice(1))),
  'admitted twice': says((sent) => lines([accepted(), ...whole(sent)])),
  'no done': says((sent) => lines(whole(sent).slice(0, -1))),
  'no end': says((sent) => lines([...whole(sent).slice(0, END_INDEX), DONE])),
  'too many tokens': says((sent) =>
    lines([accepted(), ...tokens(Array.from({ length: 9 }, () => wordsFor(sent)).flat()), end()]),
  ),
  'token after the end': says((sent) =>
    lines([...whole(sent).slice(0, -1), ...tokens([' more']), DONE]),
  ),
  'usage of another prompt': says((sent) => {
    const wrong = end()
    return lines([
      ...whole(sent).slice(0, END_INDEX),
      { ...wrong, usage: { ...wrong.usage, prompt_tokens: 13 } },
      DONE,
    ])
  }),
  'error event in mid-answer': afterPart(() =>
    lineOf({
      event: 'error',
      arm: null,
      error: { code: 'internal', message: 'the stub fails', outcome: 'retryable' },
    }),
  ),
  '429 of a proxy': answers(429, 'busy', { 'retry-after': String(RETRY_SECONDS) }),
  '503 of a proxy': answers(503, 'busy', { 'retry-after': String(RETRY_SECONDS) }),
  '503 of a proxy without Retry-After': answers(503, '<html>busy</html>'),
  '500 of a proxy': answers(500, '<html>oops</html>'),
  '429 of the protocol': refuses(429, {
    code: 'over_capacity',
    outcome: 'over_capacity',
    retry_after_seconds: RETRY_SECONDS,
  }),
  '503 of the protocol': refuses(503, {
    code: 'over_capacity',
    outcome: 'over_capacity',
    retry_after_seconds: RETRY_SECONDS,
  }),
  '500 of the protocol': refuses(500, { code: 'internal', outcome: 'retryable' }),
} satisfies Record<string, Misbehave>

/** The end of an answer of two tokens, with a text replaced. */
const endLine = (from: string, to: string): string => lineOf(end(2)).replace(from, to)

export const STATUS_FAULTS = {
  'status is garbage': says(() => '<html>hello</html>'),
  'status has null for a number': says(() =>
    JSON.stringify({ ...STATUS, load: { ...STATUS.load, running: null } }),
  ),
  'status has NaN': says(() => JSON.stringify(STATUS).replace('"running":0', '"running":NaN')),
  'status of another protocol version': says(() =>
    JSON.stringify({ ...STATUS, protocol_version: STATUS.protocol_version + 1 }),
  ),
  'status of another model': says(() =>
    JSON.stringify({ ...STATUS, model: { ...STATUS.model, slug: 'another-model' } }),
  ),
  /** No fault: it keeps a gateway from choosing this runner first. */
  'status of a full runner': says(() =>
    JSON.stringify({ ...STATUS, load: { ...STATUS.load, running: STATUS.limits.max_rows } }),
  ),
  'status 500': answers(500, '<html>oops</html>'),
  'status breaks off': (response) => {
    response.writeHead(200, { 'content-length': '1000' }).write('{"protocol')
    setTimeout(() => response.destroy(), PACE_MS)
  },
  'no answer to anything': () => undefined,
} satisfies Record<string, Misbehave>

export type GenerateFault = keyof typeof GENERATE_FAULTS
export type StatusFault = keyof typeof STATUS_FAULTS
export type Fault = GenerateFault | StatusFault
