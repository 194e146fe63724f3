/** The figures of `npm run bench -- engine`, by the names that select them. */
import { createRng, permutation } from '../../../adapters/optimise/rng.ts'
import { compare, type Arm, type Summary } from './compare.ts'
import type { Lab } from './lab.ts'
import { rotationCost } from './rotation-cost.ts'
import { round } from './statistics.ts'
import type { GenerateOptions, Generation, Target } from './target.ts'

const NUM_SEQUENCES = 16
const PROMPT_LEN = 512
const NUM_RESIDENT = 1_000
const STORY =
  'Once upon a time, there was a little girl who lived in a small village near the sea, number'

export const FIGURES: Readonly<Record<string, (lab: Lab) => Promise<Summary[]>>> = {
  'decode-1': decodeOne,
  'decode-16': decodeSixteen,
  'prefill-512': prefill,
  'rotation-16': rotationCost,
  'arms-16': arms,
  'prefix-512': prefix,
  'residents-1000': residents,
  memory,
  start,
}

/** Tokens a second between a lone sequence's first token and its last. */
async function decodeOne(lab: Lab): Promise<Summary[]> {
  const numTokens = 97
  const prompt = lab.tokenizer.encode(`${STORY} 0`)
  const arms = (await everyTarget(lab)).map((target) => ({
    name: target.name,
    measure: async () => concurrentRate(target, [await target.generate(prompt, { numTokens })]),
  }))
  return [await compare('decode-1', 'tokens/s', arms, 7, { atLeast: 0.95, aim: 1.1 })]
}

/** Tokens a second while all of sixteen sequences run; Arcana's with an adapter each. */
async function decodeSixteen(lab: Lab): Promise<Summary[]> {
  const numTokens = 64
  const digests = await lab.putAdapters(await lab.arcana(), NUM_SEQUENCES)
  const arms = (await everyTarget(lab)).map((target) => ({
    name: target.name,
    measure: async () => concurrentRate(target, await wave(lab, target, numTokens, digests)),
  }))
  return [await compare('decode-16', 'tokens/s', arms, 5, { atLeast: 1.8, aim: 2.5 })]
}

/** A prompt's tokens over the time to its first token. */
async function prefill(lab: Lab): Promise<Summary[]> {
  const arms = (await everyTarget(lab)).map((target) => ({
    name: target.name,
    measure: async () => prefillRate(lab, target),
  }))
  return [await compare('prefill-512', 'tokens/s', arms, 5, { atLeast: 2, aim: 3 })]
}

/** Sixteen arms over one prompt in one request, against as many requests that share nothing. */
async function arms(lab: Lab): Promise<Summary[]> {
  const numTokens = 4
  const arcana = await lab.arcana()
  const digests = await lab.putAdapters(arcana, NUM_SEQUENCES)
  const runsPerSecond = (generations: readonly Generation[]): number => {
    const start = Math.min(...generations.map(({ startMs }) => startMs))
    return 1000 / (lastTokenMs(generations) - start)
  }
  const separate = (target: Target) => async (): Promise<number> => {
    const prompt = lab.freshPrompt(PROMPT_LEN)
    const requests = digests.map((digest) =>
      target.generate(prompt, { numTokens, ...(target === arcana ? { adapters: [digest] } : {}) }),
    )
    return runsPerSecond(await Promise.all(requests))
  }
  const together: Arm = {
    name: 'arcana',
    measure: async () => {
      const prompt = lab.freshPrompt(PROMPT_LEN)
      return runsPerSecond([await arcana.generate(prompt, { numTokens, adapters: digests })])
    },
  }
  const own: Arm = { name: 'arcana, 16 requests', measure: separate(arcana) }
  const bar = { atLeast: 8, aim: 12 }
  const figure = 'arms-16'
  const summaries = [await compare(figure, 'runs/s', [together, own], 3, bar)]
  // Sixteen cold prompts take a peer half a minute: only the one that is fastest at a prompt.
  const peers = await lab.peers()
  const rates: number[] = []
  for (const peer of peers) rates.push(await prefillRate(lab, peer))
  const peer = peers[rates.indexOf(Math.max(...rates))]
  if (peer) {
    const theirs: Arm = { name: `${peer.name}, 16 requests`, measure: separate(peer) }
    summaries.push(await compare(`${figure} llama.cpp`, 'runs/s', [together, theirs], 3))
  }
  return summaries
}

/** First tokens per second with all but the prompt's last token cached, and with an empty cache. */
async function prefix(lab: Lab): Promise<Summary[]> {
  const arcana = await lab.arcana()
  const firstTokensPerSecond = async (prompt: readonly number[], tenant: string) => {
    const generation = await arcana.generate(prompt, { numTokens: 1, tenant })
    return 1000 / (generation.tokenMs[0]![0]! - generation.startMs)
  }
  let prompt: readonly number[] = lab.freshPrompt(PROMPT_LEN)
  await firstTokensPerSecond(prompt, 'bench')
  const measured = [
    { name: 'arcana', measure: () => firstTokensPerSecond(prompt, 'bench') },
    {
      name: 'arcana, cold',
      measure: () => {
        prompt = lab.freshPrompt(PROMPT_LEN)
        return firstTokensPerSecond(prompt, 'bench')
      },
    },
  ]
  return [await compare('prefix-512', 'first tokens/s', measured, 9, { atLeast: 10, aim: 20 })]
}

/** Waves of sixteen short requests, from the first's start to the last's end, drawn from 1,000 adapters. */
async function residents(lab: Lab): Promise<Summary[]> {
  const numTokens = 32
  const open = async (name: string, count: number) => {
    const target = await lab.startArcana({}, name)
    return { target, digests: await lab.putAdapters(target, count) }
  }
  const many = await open('arcana', NUM_RESIDENT)
  const one = await open('arcana, one adapter', 1)
  const random = createRng(2)
  const arms = [many, one].map(({ target, digests }) => ({
    name: target.name,
    measure: async () => {
      const order = permutation(digests.length, random)
      const drawn = Array.from(
        { length: NUM_SEQUENCES },
        (_, row) => digests[order[row % order.length]!]!,
      )
      const generations = await wave(lab, target, numTokens, drawn)
      const start = Math.min(...generations.map(({ startMs }) => startMs))
      return (1000 * NUM_SEQUENCES * numTokens) / (lastTokenMs(generations) - start)
    },
  }))
  try {
    return [await compare('residents-1000', 'tokens/s', arms, 9, { atLeast: 0.95, aim: 1 })]
  } finally {
    for (const { target } of [many, one]) await target.stop()
  }
}

/** Peak memory of each target in its own process, after one prompt and sixteen sequences. */
async function memory(lab: Lab): Promise<Summary[]> {
  const summaries: Summary[] = []
  for (const { name, start } of await starts(lab)) {
    const target = await start()
    await prefillRate(lab, target)
    await wave(lab, target, 16, [])
    const mib = round(await target.peakMemoryMib())
    await target.stop()
    console.log(JSON.stringify({ figure: 'memory', unit: 'MiB', [name]: mib }))
    summaries.push({ figure: `memory ${name}`, unit: 'MiB', value: mib })
  }
  return summaries
}

/** From a process's spawn to its first answer of one token, graphs built and files in memory. */
async function start(lab: Lab): Promise<Summary[]> {
  const prompt = lab.tokenizer.encode(STORY)
  const arms = (await starts(lab)).map(({ name, start }) => ({
    name,
    measure: async () => {
      const spawnedMs = performance.now()
      const target = await start()
      const { tokenMs } = await target.generate(prompt, { numTokens: 1 })
      await target.stop()
      return 1000 / (tokenMs[0]![0]! - spawnedMs)
    },
  }))
  return [await compare('start', 'starts/s', arms, 3)]
}

async function starts(lab: Lab): Promise<{ name: string; start: () => Promise<Target> }[]> {
  const peers = await lab.peerKinds()
  return [
    { name: 'arcana', start: () => lab.startArcana() },
    ...peers.map((peer) => ({ name: peer.name, start: () => peer.start(lab.gguf) })),
  ]
}

async function everyTarget(lab: Lab): Promise<Target[]> {
  return [await lab.arcana(), ...(await lab.peers())]
}

/** Sixteen concurrent requests; on Arcana each with an adapter, if there are any. */
function wave(
  lab: Lab,
  target: Target,
  numTokens: number,
  digests: readonly string[],
): Promise<Generation[]> {
  const requests = Array.from({ length: NUM_SEQUENCES }, (_, row) => {
    const prompt = lab.tokenizer.encode(`${STORY} ${row}`)
    const digest = target.name.startsWith('arcana') ? digests[row] : undefined
    const options: GenerateOptions = { numTokens, ...(digest ? { adapters: [digest] } : {}) }
    return target.generate(prompt, options)
  })
  return Promise.all(requests)
}

async function prefillRate(lab: Lab, target: Target): Promise<number> {
  const prompt = lab.freshPrompt(PROMPT_LEN)
  const { startMs, tokenMs } = await target.generate(prompt, { numTokens: 1 })
  return (1000 * PROMPT_LEN) / (tokenMs[0]![0]! - startMs)
}

/** Tokens that arrived while every sequence ran: after the last's first token, until one ended. */
function concurrentRate({ name }: Target, generations: readonly Generation[]): number {
  const rows = generations.flatMap(({ tokenMs }) => tokenMs)
  const from = Math.max(...rows.map((times) => times[0]!))
  const until = Math.min(...rows.map((times) => times[times.length - 1]!))
  if (until <= from) {
    const [first, last] = [Math.min(...rows.map((times) => times[0]!)), from].map(Math.round)
    throw new Error(
      `${name} began its sequences from ${first!} to ${last!} ms and ended one at ${Math.round(until)}`,
    )
  }
  const count = rows.reduce(
    (sum, times) => sum + times.filter((ms) => ms > from && ms <= until).length,
    0,
  )
  return (1000 * count) / (until - from)
}

const lastTokenMs = (generations: readonly Generation[]): number =>
  Math.max(...generations.flatMap(({ tokenMs }) => tokenMs.flat()))
