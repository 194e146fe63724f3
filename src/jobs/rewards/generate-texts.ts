import { touchedLayers, type Rotation } from '../../../adapters/rotation/rotation.ts'
import { withAdapters } from '../../dispatch/attempt.ts'
import { generateOn, type GenerationPlan } from '../../dispatch/generate.ts'
import type { RunnerClient } from '../../dispatch/runner-client.ts'
import { MAX_ARMS, type Arm, type PromptMessage } from '../../protocol/runner.ts'
import { sha256Hex } from '../../storage/digest.ts'
import { baseArm } from '../../tasks/compose.ts'
import { BuildChanged } from '../faults.ts'
import type { PinnedModel } from '../job-spec.ts'
import { toStored, withRunner } from '../step-context.ts'
import type { StepContext } from '../step.ts'
import { inPool } from './pool.ts'

/** How many prompts are generated at a time. The arms of one prompt already fill most of a batch. */
const NUM_PROMPTS_TOGETHER = 2
/**
 * The step between two prompts' seeds: 2^32 / golden ratio. It is odd, so no two prompts share a
 * seed.
 */
const SEED_STEP = 0x9e3779b1
/** The step between the seeds of two draws for one prompt: another odd number. */
const DRAW_STEP = 0x85ebca6b

type Candidate = {
  readonly arm: Arm
  readonly layers: readonly number[]
  /** Null for the base model. */
  readonly bytes: Uint8Array | null
}

/** A text to generate: for which prompt and under which rotation, by index. */
export type WantedText = {
  readonly rotation: number
  readonly prompt: number
  /** The texts of one prompt and draw have the same seed under all rotations. */
  readonly draw: number
}

export type GeneratedText = {
  readonly text: string
  readonly ids: readonly number[]
  /** Whether the model ended its turn; false if the text was cut at the token limit. */
  readonly ended: boolean
}

/**
 * Generates answers to prompts under rotations. A request holds as many answers to one prompt as it
 * has room for arms. Seeds follow from the job, the prompt and the draw, so a repeated call gives
 * the same texts.
 * @returns the texts in the order of `wanted`
 * @throws {RunnerRefusal | RunnerCallFailure | BuildChanged}
 */
export async function generateTexts(
  context: StepContext,
  pinned: PinnedModel,
  prompts: readonly (readonly PromptMessage[])[],
  rotations: readonly Rotation[],
  wanted: readonly WantedText[],
): Promise<GeneratedText[]> {
  const candidates = await Promise.all(
    rotations.map((rotation) => toCandidate(context, pinned, rotation)),
  )
  return withRunner(context, async ({ client, status }) => {
    const numArms = Math.min(MAX_ARMS, status.limits.max_rows)
    const texts = new Array<GeneratedText>(wanted.length)
    await inPool(prompts, NUM_PROMPTS_TOGETHER, async (messages, index) => {
      const places = wanted.flatMap(({ prompt }, place) => (prompt === index ? [place] : []))
      for (let at = 0; at < places.length; at += numArms) {
        const group = places.slice(at, at + numArms)
        const arms = group.map((place) => {
          const { rotation, draw } = wanted[place]!
          return { candidate: candidates[rotation]!, draw }
        })
        const answers = await answer(context, pinned, client, messages, index, arms)
        for (const [i, place] of group.entries()) texts[place] = answers[i]!
      }
    })
    return texts
  })
}

async function toCandidate(
  { spec }: StepContext,
  pinned: PinnedModel,
  rotation: Rotation,
): Promise<Candidate> {
  const layers = touchedLayers(rotation)
  if (layers.length === 0) return { arm: baseArm(), layers, bytes: null }
  const { bytes } = toStored(spec, pinned, rotation)
  const digest = await sha256Hex(bytes)
  return { arm: { adapters: [{ digest, weight: 1 }], scope: spec.scope }, layers, bytes }
}

/** Generates the wanted texts of one prompt by one request. */
async function answer(
  { spec, signal }: StepContext,
  pinned: PinnedModel,
  client: RunnerClient,
  messages: readonly PromptMessage[],
  index: number,
  wanted: readonly { readonly candidate: Candidate; readonly draw: number }[],
): Promise<GeneratedText[]> {
  const { generation } = spec
  if (generation == null) throw new Error('this job with a grader has no generation options')
  const candidates = [...new Set(wanted.map(({ candidate }) => candidate))]
  const arms = wanted.map(({ candidate, draw }) => {
    const seed = spec.seed + Math.imul(index + 1, SEED_STEP) + Math.imul(draw, DRAW_STEP)
    return { ...candidate.arm, seed: seed >>> 0 }
  })
  const plan: GenerationPlan = {
    model: spec.model,
    modelDigest: pinned.modelDigest,
    request: {
      request_id: `${spec.id}-${index}`,
      tenant: spec.projectId,
      // Live requests go first.
      service_tier: 'flex',
      messages: [...messages],
      arms,
      sampling: {
        max_tokens: generation.max_tokens,
        temperature: generation.temperature,
        top_p: 1,
        stop: [],
      },
    },
    expected: arms.map((arm, i) => ({
      arm,
      modelDigest: pinned.modelDigest,
      biasDigest: null,
      layers: wanted[i]!.candidate.layers,
      layersExact: true,
    })),
  }
  const files = new Map(
    candidates.flatMap(({ arm, bytes }) => {
      const digest = arm.adapters[0]?.digest
      return bytes === null || digest === undefined ? [] : [[digest, bytes] as const]
    }),
  )
  const started = await withAdapters(
    client,
    [...files.keys()],
    (digest) => Promise.resolve(files.get(digest)!),
    () => generateOn(client, plan, signal),
  )
  const texts = arms.map(() => ({ text: '', ids: [] as number[], ended: false }))
  try {
    if (started.accepted.build_digest !== pinned.buildDigest) throw new BuildChanged()
    for await (const event of started.events) {
      if (event.event === 'token') {
        texts[event.arm]!.text += event.text
        texts[event.arm]!.ids.push(...event.ids)
      } else if (event.event === 'end') {
        texts[event.arm]!.ended = event.finish_reason === 'stop'
      }
    }
  } finally {
    await started.events.return(undefined)
  }
  return texts
}
