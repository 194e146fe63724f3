import pLimit from 'p-limit'
import { collectAnswers, type Answer } from '../dispatch/collect.ts'
import type { Generation, GenerationPlan } from '../dispatch/generate.ts'
import { sumUsage, usageOf } from '../dispatch/count-usage.ts'
import type { Urgency } from '../dispatch/urgency.ts'
import { abortWith } from '../http/held-json.ts'
import type { Usage } from '../protocol/openai/chat-completions.ts'
import {
  completionRequestSchema,
  joinLogprobs,
  LogprobsWriter,
  withoutUnsupportedOfCompletions,
  type Completion,
  type CompletionChoice,
  type CompletionRequest,
  type Prompt,
} from '../protocol/openai/completions.ts'
import { warningHeaders } from '../http/warnings.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { ignoredHeader } from '../protocol/openai/unsupported.ts'
import { parseWire } from '../protocol/parse.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { proofHeaders, proofOf, retirementOf } from '../tasks/answer-proof.ts'
import { planArm, planGeneration } from '../tasks/plan.ts'
import { deriveSeeds } from '../tasks/seeds.ts'
import {
  admit,
  answerHead,
  resolveRequested,
  startPlan,
  urgencyOf,
  usageRecorder,
  type AnswerContext,
  type AnswerHead,
} from './answer-context.ts'

/**
 * How many prompts of a request run at once. A Worker has six connections, and the pool needs one.
 */
const MAX_IN_FLIGHT = 5

/** The answers to a request's prompts. A runner has admitted the first, and its proof was checked. */
export type CompletionRun = {
  readonly request: CompletionRequest
  readonly selection: ResolvedSelection | null
  readonly head: AnswerHead
  /** The answer's headers: the proof, and fields that were ignored. */
  readonly headers: Record<string, string>
  readonly urgency: Urgency
  /** Aborted when the client goes away. */
  readonly caller: AbortController
  /** Of the first prompt. */
  readonly runnerId: string
  /**
   * Starts each prompt's generation, a few at once, and hands it over. The first error ends them
   * all.
   */
  readonly eachPrompt: <T>(
    use: (generation: Generation, index: number) => Promise<T>,
  ) => Promise<T[]>
  readonly recordUsage: (usage: Usage) => void
  /** Ends the request's admission when the whole answer has ended. */
  readonly during: <T>(answer: () => Promise<T>) => Promise<T>
}

/**
 * Starts the answer to a body of `POST /v1/completions`, which continues given text or tokens, or
 * echoes and scores them. There is no template, frame or label.
 * @throws {ApiError}
 */
export async function startCompletion(
  context: AnswerContext,
  given: Record<string, unknown>,
): Promise<CompletionRun> {
  const { requestId, projectId } = context
  const { body, ignored } = withoutUnsupportedOfCompletions(given)
  const request = parseWire(completionRequestSchema, body)
  const urgency = urgencyOf(context, request.tier)
  const requested = await resolveRequested(context, request.model)
  const { model, selection } = requested
  checkRotateFrom(selection, request)
  const plans = await Promise.all(
    request.prompts.map((prompt, index) =>
      planPrompt({ requestId, projectId, model, urgency }, selection, request, prompt, index),
    ),
  )
  const caller = abortWith(context.signal)
  // Ends this request's calls when the caller leaves, and when one prompt fails.
  const calls = abortWith(caller.signal)
  await admit(context, plans, caller.signal)
  // The first prompt's proof is checked before any header goes out.
  const first = await startPlan(context, plans[0]!, calls.signal)
  const { runnerId } = first
  return {
    request,
    selection,
    head: answerHead('cmpl-', requestId, requested, request.tier),
    headers: {
      ...proofHeaders(selection),
      ...ignoredHeader(ignored),
      ...warningHeaders({ words: retirementOf(selection) === null ? [] : ['version-retires'] }),
    },
    urgency,
    caller,
    runnerId,
    recordUsage: usageRecorder(context, { route: 'completions', requested, runnerId }),
    during: (answer) => context.admission?.during(answer) ?? answer(),
    eachPrompt: async (use) => {
      try {
        return await pLimit(MAX_IN_FLIGHT).map(plans, async (plan, index) =>
          use(index === 0 ? first : await startPlan(context, plan, calls.signal), index),
        )
      } catch (error) {
        calls.abort()
        throw error
      }
    },
  }
}

/** @throws {ApiError} */
export async function readCompletion(run: CompletionRun): Promise<Completion> {
  const { head, runnerId, selection, request, eachPrompt, recordUsage, during } = run
  return during(async () => {
    const answers = await eachPrompt((generation) => collectAnswers(generation))
    const completion = toCompletion(head, runnerId, selection, request, answers)
    recordUsage(completion.usage)
    return completion
  })
}

/**
 * Scope `generated` rotates no prompt, and given text is one, so the request must say where to
 * begin.
 */
function checkRotateFrom(selection: ResolvedSelection | null, request: CompletionRequest): void {
  if (selection === null) return
  const { rotateFrom } = request
  if (rotateFrom === undefined) {
    throw invalidRequest(
      'A task needs rotate_from: the index of the first prompt token that its adapter rotates.',
      'rotate_from',
      'rotate_from_required',
    )
  }
  if (selection.arm.scope === 'all' && rotateFrom.some((from) => from !== 0)) {
    throw invalidRequest('An adapter of scope "all" rotates from token 0.', 'rotate_from')
  }
}

async function planPrompt(
  names: {
    readonly requestId: string
    readonly projectId: string
    readonly model: string
    readonly urgency: Urgency
  },
  selection: ResolvedSelection | null,
  request: CompletionRequest,
  prompt: Prompt,
  index: number,
): Promise<GenerationPlan> {
  const from = selection === null ? undefined : request.rotateFrom?.[index]
  // Every prompt has the same seeds, so one in a batch gets the answer that it would get alone.
  const seeds = deriveSeeds(request.seed, request.n)
  return planGeneration({
    ...names,
    requestId: `${names.requestId}.${index}`,
    input: {
      prompt: typeof prompt === 'string' ? prompt : [...prompt],
      ...(request.echo ? { echo: true } : {}),
    },
    arms: await Promise.all(seeds.map((seed) => planArm(selection, null, seed, from))),
    labels: null,
    sampling: request,
  })
}

function toCompletion(
  head: AnswerHead,
  runnerId: string,
  selection: ResolvedSelection | null,
  { n, shaping }: CompletionRequest,
  answers: readonly (readonly Answer[])[],
): Completion & { readonly usage: Usage } {
  const hasLogprobs = shaping.logprobs !== undefined
  return {
    ...head,
    object: 'text_completion',
    choices: answers.flatMap((ofPrompt, prompt) =>
      ofPrompt.map((answer, i) => toChoice(prompt * n + i, answer, hasLogprobs)),
    ),
    usage: sumUsage(answers.map((ofPrompt) => usageOf(ofPrompt.map(({ end }) => end)))),
    arcana: proofOf(selection, answers[0]![0]!.end.applied, runnerId),
  }
}

function toChoice(index: number, answer: Answer, hasLogprobs: boolean): CompletionChoice {
  const { promptText, promptTokens, text, logprobs, end } = answer
  const writer = new LogprobsWriter()
  return {
    text: promptText + text,
    index,
    logprobs: hasLogprobs
      ? joinLogprobs([
          writer.write(promptTokens),
          writer.write(logprobs),
          writer.write(end.stop_token === undefined ? [] : [end.stop_token], false),
        ])
      : null,
    finish_reason: end.finish_reason,
  }
}
