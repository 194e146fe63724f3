import { hexId } from '../protocol/openai/hex-id.ts'
import { findFile } from '../db/files.ts'
import { findTask } from '../db/tasks.ts'
import { TaskOfOtherModel } from '../db/versions.ts'
import type { Bindings, Config } from '../env.ts'
import { ApiError, invalidField, invalidRequest } from '../protocol/openai/error.ts'
import type { CreateJob } from '../protocol/openai/fine-tuning.ts'
import type { SearchName } from '../protocol/openai/search-names.ts'
import type { Dataset } from '../protocol/runner-scoring.ts'
import { servicesOf } from '../services.ts'
import { datasetKey } from '../storage/blobs.ts'
import { servedModels } from '../tasks/requested-model.ts'
import { BASE_NAME, makeTaskName, TASK_NAME_PATTERN } from '../tasks/selection.ts'
import { buildFittedDatasets } from './fit-context.ts'
import type { JobSpec } from './job-spec.ts'
import { jobStub } from './job-stub.ts'
import { objectiveOf } from './objectives/objectives.ts'
import { DEFAULT_BETA } from './preference.ts'
import { readExamples } from '../files/read-examples.ts'
import { checkGrader } from './rewards/check-grader.ts'
import type { RewardSet } from './rewards/reward-set.ts'
import { checkSearch, chooseSearch } from './searches/choose-search.ts'
import { searchOf, settleHyperparameters } from './searches/searches.ts'
import type { ObjectiveKind } from './step.ts'
import { storeDataset } from './store-dataset.ts'

/**
 * Checks a request for a job, stores the job's datasets and starts its Durable Object.
 * @returns the job as its owner sees it
 * @throws {ApiError} 400 naming the field, 404 for a model that is not served, 409 for a task of
 * another model
 */
export async function createJob(env: Bindings, projectId: string, request: CreateJob) {
  checkSearch(request)
  checkNames(request, servicesOf(env).config)
  if (request.suffix !== null) {
    // Known now, it need not fail the job at its end. Publishing checks it once more.
    const task = await findTask(env.DB, projectId, request.suffix)
    if (task !== null && task.model !== request.model) {
      throw new TaskOfOtherModel(task.name, request.model, 'suffix')
    }
  }
  const spec = await makeSpec(env, projectId, request)
  // The object writes the row in D1. A crash between the two leaves a job without a row, which the
  // object's next step mends; a row without a job would never be mended.
  return jobStub(env, projectId, spec.id).create(spec)
}

function checkNames({ model, suffix }: CreateJob, config: Config): void {
  if (!servedModels(config).includes(model)) {
    throw new ApiError(404, `The model \`${model}\` does not exist or cannot be tuned.`, {
      param: 'model',
      code: 'model_not_found',
    })
  }
  if (suffix !== null && (!TASK_NAME_PATTERN.test(suffix) || suffix === BASE_NAME)) {
    throw invalidField(
      'suffix',
      `it names the task, so it must match ${TASK_NAME_PATTERN.source} and not be "${BASE_NAME}"`,
    )
  }
}

/** Settles what the request leaves open by what its files hold, and stores the datasets. */
async function makeSpec(env: Bindings, projectId: string, request: CreateJob): Promise<JobSpec> {
  const training = await readFile(env, projectId, request.trainingFile, 'training_file')
  const validation =
    request.validationFile === null
      ? null
      : await readFile(env, projectId, request.validationFile, 'validation_file')
  const { runners } = servicesOf(env)
  const built = await buildFittedDatasets(runners, training, validation, request)
  const objective = objectiveOf(built)
  const method = { ...request, objective: built.objective }
  checkSearch(method)
  const name = chooseSearch(method)
  checkObjective(objective, request, name)
  const hasPairs = objective.hasPairs || searchOf({ optimiser: name }).drawsPairs === true
  const grader =
    request.grader === null
      ? null
      : await checkGrader(env, projectId, request.model, request.grader)
  const id = `ftjob-${hexId()}`
  const store = (dataset: Dataset | RewardSet, part: 'training' | 'validation') =>
    storeDataset(env.BLOBS, datasetKey(projectId, id, part), dataset)
  return {
    projectId,
    id,
    createdAtMs: Date.now(),
    model: request.model,
    task: request.suffix ?? makeTaskName(),
    suffix: request.suffix,
    trainingFile: request.trainingFile,
    validationFile: request.validationFile,
    metadata: request.metadata,
    seed: request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    ...settleHyperparameters(name, request.hyperparameters, { scope: request.scope, objective }),
    scope: request.scope,
    frame: built.frame,
    objective: built.objective,
    beta: hasPairs ? (request.beta ?? DEFAULT_BETA) : null,
    grader,
    generation: request.generation,
    labels: built.labels,
    guard: request.guard,
    publish: request.publish,
    tooLong: request.tooLong,
    force: request.force,
    tags: request.tags,
    notes: request.notes,
    confidence: request.confidence,
    groups: built.groups,
    warnings: built.warnings,
    training: await store(built.training, 'training'),
    validation: built.validation === null ? null : await store(built.validation, 'validation'),
  }
}

async function readFile(
  env: Bindings,
  projectId: string,
  fileId: string,
  param: 'training_file' | 'validation_file',
) {
  const row = await findFile(env.DB, projectId, fileId)
  if (row === null) throw invalidRequest(`No such file: ${fileId}`, param, 'file_not_found')
  return readExamples(env.BLOBS, row.blobKey, param)
}

/** Checks the fields that only some objectives have, now that the files have named the objective. */
function checkObjective(
  { hasLabels, hasPairs, onlySearch }: ObjectiveKind,
  { beta, confidence }: CreateJob,
  search: SearchName,
): void {
  if (beta !== null && !hasPairs && searchOf({ optimiser: search }).drawsPairs !== true) {
    throw invalidField(
      'method.rotation.beta',
      'it applies only to preference pairs; this job has none',
    )
  }
  if (onlySearch !== undefined && search !== onlySearch) {
    throw invalidField(
      'method.rotation.hyperparameters.optimizer',
      `pairs are learnt by "${onlySearch}", not by "${search}"`,
    )
  }
  if (!hasLabels && confidence !== null) {
    throw invalidField(
      'method.rotation.min_confidence',
      'it applies only to labels; the file has none',
    )
  }
}
