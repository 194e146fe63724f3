import { Hono } from 'hono'
import { admit, startPlan, urgencyOf } from '../answers/answer-context.ts'
import type { AppEnv } from '../context.ts'
import {
  checkArms,
  collectArms,
  describeFrame,
  readArmsModel,
  resolveArms,
} from '../experiments/compare.ts'
import { abortWith } from '../http/held-json.ts'
import { readJsonObject } from '../http/read-json.ts'
import { compareSchema, type Comparison } from '../protocol/arcana/compare.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { withoutNulls } from '../protocol/openai/nulls.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import { applyFrame } from '../tasks/frame.ts'
import { planArm, planGeneration, readChoice } from '../tasks/plan.ts'
import { answerContextOf, sendWhole } from './answer-route.ts'

/** Answers one prompt under several selections, with one frame, one seed and one prefill. */
export const compare = new Hono<AppEnv>().post('/', async (c) => {
  const startedAtMs = Date.now()
  const context = answerContextOf(c)
  const { projectId, requestId } = context
  const { config } = servicesOf(c.env)
  const request = parseWire(compareSchema, withoutNulls(await readJsonObject(c.req.raw)))
  if (c.req.header('x-task') !== undefined) {
    throw invalidRequest('A comparison names its tasks in arms, not in x-task.', 'x-task')
  }
  const model = readArmsModel(config, request.model, 'A comparison')
  const selections = await resolveArms(c.env.DB, projectId, model, request.arms)
  const framing = selections.find((selection) => selection !== null) ?? null
  const urgency = urgencyOf(context, undefined)
  const labels = readChoice(c.req.header('x-arcana-choice'), framing)
  if (framing !== null) checkArms(selections, framing, labels)
  const { messages, replaced } = applyFrame(framing?.frame ?? NO_FRAME, request.messages)
  const seed = request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!
  const planned = await Promise.all(selections.map((selection) => planArm(selection, labels, seed)))
  const plan = planGeneration({
    requestId,
    projectId,
    model,
    input: { messages: [...messages] },
    arms: planned,
    labels,
    sampling: {
      maxTokens: request.max_tokens,
      temperature: request.temperature,
      topP: 1,
      stop: [],
    },
    urgency,
  })
  const caller = abortWith(c.req.raw.signal)
  await admit(context, [plan], caller.signal)
  const generation = await startPlan(context, plan, caller.signal)
  const collect = async (): Promise<Comparison> => {
    const { arms, numPrefills } = await collectArms(generation, planned, request.arms)
    // All arms of scope `generated` share one computation of the prompt.
    const promptTokens = arms[0]!.usage.prompt_tokens * numPrefills
    const completionTokens = arms.reduce((sum, arm) => sum + arm.usage.completion_tokens, 0)
    context.admission.answered(promptTokens + completionTokens)
    context.recordUsage({
      requestId,
      projectId,
      keyId: context.keyId,
      createdAtMs: Date.now(),
      route: 'compare',
      model,
      selection: request.arms.join(' | '),
      runnerId: generation.runnerId,
      promptTokens,
      cachedTokens: arms[0]!.usage.prompt_tokens_details.cached_tokens,
      completionTokens,
    })
    return {
      id: `cmp-${requestId.slice('req_'.length)}`,
      object: 'arcana.comparison',
      created: Math.floor(startedAtMs / 1000),
      model,
      seed,
      frame: describeFrame(selections, replaced),
      num_prefills: numPrefills,
      arms,
      latency_ms: Date.now() - startedAtMs,
    }
  }
  const headers = replaced ? { 'x-arcana-warning': 'frame-replaced' } : {}
  return sendWhole({ urgency, caller, headers }, context.admission.during(collect))
})

const NO_FRAME = { instructions: null, position: 'before' } as const
