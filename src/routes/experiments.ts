import { Hono } from 'hono'
import { admit, urgencyOf } from '../answers/answer-context.ts'
import type { AppEnv } from '../context.ts'
import {
  deleteExperiment,
  findExperiment,
  insertExperiment,
  listExperiments,
} from '../db/experiments.ts'
import { findFile } from '../db/files.ts'
import type { Bindings } from '../env.ts'
import { checkArms, describeFrame, readArmsModel, resolveArms } from '../experiments/compare.ts'
import { askRows, planExperiment, type Answers } from '../experiments/run-experiment.ts'
import { countSeenRows } from '../experiments/seen-rows.ts'
import { summariseArms } from '../experiments/summarise.ts'
import { readExamples, type NumberedExample } from '../files/read-examples.ts'
import { abortWith } from '../http/held-json.ts'
import { readJsonObject } from '../http/read-json.ts'
import {
  experimentSchema,
  experimentsQuerySchema,
  MAX_EXPERIMENT_ROWS,
  type Experiment,
} from '../protocol/arcana/experiment.ts'
import { invalidRequest, notFound } from '../protocol/openai/error.ts'
import { toPage } from '../protocol/openai/files.ts'
import { hexId } from '../protocol/openai/hex-id.ts'
import { withoutNulls } from '../protocol/openai/nulls.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { answerContextOf, sendWhole } from './answer-route.ts'

/** Answers a labelled file under several selections and compares their accuracy. */
export const experiments = new Hono<AppEnv>()
  .post('/', async (c) => {
    const createdAtMs = Date.now()
    const context = answerContextOf(c)
    const { projectId, requestId } = context
    const { config } = servicesOf(c.env)
    const request = parseWire(experimentSchema, withoutNulls(await readJsonObject(c.req.raw)))
    const model = readArmsModel(config, request.model, 'An experiment')
    const selections = await resolveArms(c.env.DB, projectId, model, request.arms)
    const { framing, labels } = readFraming(selections)
    checkArms(selections, framing, labels)
    const examples = await readRows(c.env, projectId, request.file, labels)
    // It runs behind live requests.
    const urgency = urgencyOf(context, 'flex')
    const asked = { model, examples, selections, framing, labels, urgency }
    const planned = await planExperiment(context, asked)
    const numSeen = await countSeenRows(c.env, projectId, examples, selections)
    const caller = abortWith(c.req.raw.signal)
    await admit(context, planned.plans, caller.signal)
    const run = async (): Promise<Experiment> => {
      const answers = await askRows(context, planned, examples, request.arms, caller.signal)
      const { promptTokens, cachedTokens, completionTokens, runnerId } = answers
      context.admission.answered(promptTokens + completionTokens)
      context.recordUsage({
        requestId,
        projectId,
        keyId: context.keyId,
        createdAtMs: Date.now(),
        route: 'experiments',
        model,
        selection: request.arms.join(' | '),
        runnerId,
        promptTokens,
        cachedTokens,
        completionTokens,
      })
      const experiment: Experiment = {
        id: `exp_${hexId()}`,
        object: 'arcana.experiment',
        created_at: Math.floor(createdAtMs / 1000),
        model,
        file: request.file,
        frame: describeFrame(selections, false)!,
        labels,
        num_rows: examples.length,
        arms: describeArms(answers, labels, request.arms, numSeen),
        rows: answers.rows,
        usage: {
          prompt_tokens: promptTokens,
          completion_tokens: completionTokens,
          total_tokens: promptTokens + completionTokens,
        },
        latency_ms: Date.now() - createdAtMs,
      }
      await insertExperiment(c.env.DB, { projectId, object: experiment, createdAtMs })
      return experiment
    }
    return sendWhole({ urgency, caller, headers: {} }, context.admission.during(run))
  })
  .get('/', async (c) => {
    const page = parseWire(experimentsQuerySchema, c.req.query())
    const rows = await listExperiments(c.env.DB, c.get('projectId'), page)
    if (rows === null) throw invalidRequest('No such experiment to list after.', 'after')
    return c.json(toPage(rows, page.limit))
  })
  .get('/:id', async (c) => {
    const id = c.req.param('id')
    const found = await findExperiment(c.env.DB, c.get('projectId'), id)
    if (found === null) throw noExperiment(id)
    return c.json(found)
  })
  .delete('/:id', async (c) => {
    const id = c.req.param('id')
    if (!(await deleteExperiment(c.env.DB, c.get('projectId'), id))) throw noExperiment(id)
    return c.json({ id, object: 'arcana.experiment', deleted: true })
  })

const noExperiment = (id: string) =>
  notFound(`No such experiment: ${id}`, 'id', 'experiment_not_found')

/** All arms have the frame and the labels of the first task. */
function readFraming(selections: readonly (ResolvedSelection | null)[]): {
  readonly framing: ResolvedSelection
  readonly labels: readonly string[]
} {
  const framing = selections.find((selection) => selection !== null)
  if (framing === undefined) {
    throw invalidRequest('At least one arm must be a task, which says what the labels are.', 'arms')
  }
  if (framing.labels === null) {
    throw invalidRequest(
      `"${framing.expression}" answers in free text; an experiment compares tasks that have labels.`,
      'arms',
      'labels_needed',
    )
  }
  return { framing, labels: framing.labels }
}

/** @throws {ApiError} 400 naming the lines that cannot be counted */
async function readRows(
  env: Bindings,
  projectId: string,
  id: string,
  labels: readonly string[],
): Promise<readonly NumberedExample[]> {
  const file = await findFile(env.DB, projectId, id)
  if (file === null) throw invalidRequest(`No such file: ${id}`, 'file', 'file_not_found')
  const examples = await readExamples(env.BLOBS, file.blobKey, 'file')
  if (examples.length > MAX_EXPERIMENT_ROWS) {
    throw invalidRequest(
      `The file has ${examples.length} rows; an experiment asks at most ${MAX_EXPERIMENT_ROWS}.`,
      'file',
      'too_many_rows',
    )
  }
  const unknown = examples.find(({ example }) => !labels.includes(example.answer.trim()))
  if (unknown === undefined) return examples
  throw invalidRequest(
    `In line ${unknown.line}, the answer is not one of the labels: ${labels.join(', ')}.`,
    'file',
    'unknown_label',
  )
}

function describeArms(
  { rows, answers }: Answers,
  labels: readonly string[],
  names: readonly string[],
  numSeen: readonly number[],
): Experiment['arms'] {
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length
  return summariseArms(rows, labels, names, numSeen).map((figures, index) => {
    const own = answers.map((arms) => arms[index]!)
    return {
      index,
      arm: names[index]!,
      ...figures,
      num_seen_rows: numSeen[index]!,
      mean_first_token_ms: mean(own.map(({ first_token_ms: ms }) => ms)),
      mean_total_ms: mean(own.map(({ total_ms: ms }) => ms)),
      completion_tokens: own.reduce((sum, { usage }) => sum + usage.completion_tokens, 0),
      arcana: own[0]!.arcana,
    }
  })
}
