import { DurableObject } from 'cloudflare:workers'
import { upsertJob } from '../db/jobs.ts'
import type { Bindings } from '../env.ts'
import {
  isFinished,
  type FineTuningJob,
  type JobCheckpoint,
  type JobEvent,
  type JobProgress,
} from '../protocol/openai/fine-tuning.ts'
import { servicesOf } from '../services.ts'
import { publishCheckpoint, viewCheckpoints } from './checkpoint.ts'
import { backoffMs, judgeFault } from './faults.ts'
import {
  INITIAL_STATE,
  type FoldTrial,
  type JobSpec,
  type JobState,
  type Trial,
} from './job-spec.ts'
import { bestValue } from './best-value.ts'
import { countGuardFolds } from './guard-folds.ts'
import { stepRepeats } from './guard-repeats.ts'
import type { CancelOutcome, ForceOutcome, JobCalls, JobResult } from './job-calls.ts'
import { JobStore, type NewEvent } from './job-store.ts'
import { viewJob } from './job-view.ts'
import { publish } from './publish.ts'
import { prepare } from './prepare.ts'
import { objectiveOf } from './objectives/objectives.ts'
import { searchOf } from './searches/searches.ts'
import { message } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/** How long one alarm makes steps. A longer one would delay a cancel and the copy in D1. */
const SLICE_MS = 2_000
/** A build that changes more often than this will not settle. */
const MAX_RESTARTS = 3

/**
 * One fine-tuning job. This object holds the truth about it; the row in D1 is a copy. It writes the
 * result of each step before it takes the next one. Alarms drive it, so that it goes on by itself
 * after a crash, which repeats at most one step.
 */
export class JobObject extends DurableObject<Bindings> implements JobCalls {
  readonly #store: JobStore
  #spec: JobSpec | null = null
  #state: JobState = INITIAL_STATE
  #trials: Trial[] = []
  #foldTrials: FoldTrial[] = []
  #search: Uint8Array | null = null
  #repeat: Uint8Array | null = null
  /** Ends the running step when the job is cancelled. */
  #controller = new AbortController()

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new JobStore(ctx.storage)
    const loaded = this.#store.load()
    if (loaded === null) return
    this.#spec = loaded.spec
    this.#state = loaded.state
    this.#trials = this.#store.trials()
    this.#foldTrials = this.#store.foldTrials()
    this.#search = this.#store.search()
    this.#repeat = this.#store.repeat()
  }

  /** Starts a job whose datasets the caller has stored. A second call changes nothing. */
  async create(spec: JobSpec): Promise<FineTuningJob> {
    if (this.#spec === null) {
      this.#store.create(spec, INITIAL_STATE, [
        message(`Created fine-tuning job: ${spec.id}`),
        ...spec.warnings.map((warning) => message(warning.message, 'warn')),
      ])
      this.#spec = spec
      this.#state = INITIAL_STATE
      await this.ctx.storage.setAlarm(Date.now())
    }
    await this.#project()
    return this.#view()
  }

  /** @returns null if this object has no job */
  read(): JobResult | null {
    if (this.#spec === null) return null
    const isDecided = this.#state.status === 'succeeded' || this.#state.status === 'failed'
    return {
      job: this.#view(),
      report: isDecided ? (this.#state.publication?.report ?? null) : null,
    }
  }

  /** Newest first; one more than `limit` if the list goes on. Null if `after` names no event. */
  listEvents(limit: number, after: string | undefined): JobEvent[] | null {
    return this.#spec === null ? null : this.#store.events(limit, after)
  }

  /** Newest first; null if this object has no job. */
  listCheckpoints(): JobCheckpoint[] | null {
    return this.#spec === null ? null : viewCheckpoints(this.#spec, this.#state)
  }

  async cancel(): Promise<CancelOutcome | null> {
    if (this.#spec === null) return null
    // The step that publishes may already have written the version, which a cancel cannot take back.
    if (isFinished(this.#state.status) || this.#state.phase === 'publishing') {
      return { outcome: 'too_late', job: this.#view() }
    }
    this.#apply({
      state: { status: 'cancelled', phase: 'finished', finishedAtMs: Date.now() },
      events: [message('The job was cancelled.', 'warn')],
    })
    this.#controller.abort(new DOMException('the job was cancelled', 'AbortError'))
    await this.ctx.storage.setAlarm(Date.now())
    await this.#project()
    return { outcome: 'cancelled', job: this.#view() }
  }

  /**
   * Publishes what the guard kept back. The report then says that it was forced.
   * @returns `done: false` if nothing was kept back; null if this object has no job
   */
  async forcePublish(): Promise<ForceOutcome | null> {
    if (this.#spec === null) return null
    const { status, publication } = this.#state
    if (status !== 'failed' || publication === null) return { done: false, job: this.#view() }
    const { version, report } = publication
    // TypeScript loses track of which kind of report it is.
    const forced = { ...report, guard: { ...report.guard, forced: true } } as typeof report
    this.#apply({
      state: {
        status: 'running',
        phase: 'publishing',
        finishedAtMs: null,
        error: null,
        publication: {
          version: { ...version, createdAtMs: Date.now() },
          report: forced,
          isLive: true,
        },
      },
      events: [message('Publishing what the guard kept back, as asked.', 'warn')],
    })
    await this.ctx.storage.setAlarm(Date.now())
    await this.#project()
    return { done: true, job: this.#view() }
  }

  override async alarm(): Promise<void> {
    if (this.#spec === null) return
    let delayMs: number | null
    try {
      delayMs = await this.#runSlice(this.#spec)
    } catch (error) {
      // The platform gives an alarm up after six tries that throw, so this one never throws.
      console.error(
        JSON.stringify({ event: 'job_alarm_failed', job: this.#spec.id, error: String(error) }),
      )
      delayMs = backoffMs(this.#state.numFaults + 1)
    }
    if (delayMs !== null) await this.ctx.storage.setAlarm(Date.now() + delayMs)
  }

  /** @returns ms until the next alarm; null if nothing is left to do */
  async #runSlice(spec: JobSpec): Promise<number | null> {
    const deadlineMs = Date.now() + SLICE_MS
    let delayMs = 0
    while (this.#state.phase !== 'finished' && Date.now() < deadlineMs && delayMs === 0) {
      delayMs = await this.#runStep(spec)
    }
    const isProjected = await this.#project()
    if (this.#state.phase !== 'finished') return delayMs
    const isCleaned = await this.#clean(spec)
    return isProjected && isCleaned ? null : backoffMs(this.#state.numFaults + 1)
  }

  /** Takes one step and writes its result. @returns ms to wait before the next */
  async #runStep(spec: JobSpec): Promise<number> {
    try {
      const transition = await this.#step({
        env: this.env,
        runners: servicesOf(this.env).runners,
        spec,
        search: searchOf(spec),
        objective: objectiveOf(spec),
        state: this.#state,
        trials: this.#trials,
        foldTrials: this.#foldTrials,
        searchState: this.#search,
        repeatState: this.#repeat,
        signal: this.#controller.signal,
      })
      // The job was cancelled while the step ran, so the result is dropped.
      if (this.#isFinished()) return 0
      this.#apply({
        ...transition,
        state: { faultSinceMs: null, numFaults: 0, ...transition.state },
      })
      return 0
    } catch (error) {
      if (this.#isFinished()) return 0
      return this.#handleFault(error)
    }
  }

  // A method, because the compiler does not see that #state may change during an await.
  #isFinished(): boolean {
    return isFinished(this.#state.status)
  }

  #step(context: StepContext): Promise<Transition> {
    const { search } = context
    const { phase, pinned, publication } = context.state
    if (phase === 'publishing' && publication !== null) return publish(context, publication)
    if (phase === 'preparing' || pinned === null) return prepare(context)
    if (phase === 'searching') return search.stepSearch(context, pinned)
    if (phase === 'checkpointing') return publishCheckpoint(context, pinned)
    if (phase === 'guarding' && search.foldSearch !== null) {
      return search.foldSearch.stepFolds(context, pinned)
    }
    if (phase === 'guarding') return stepRepeats(context, pinned)
    return context.objective.report(context, pinned)
  }

  /** @returns ms to wait before the step is tried again */
  #handleFault(error: unknown): number {
    const verdict = judgeFault(error)
    const nowMs = Date.now()
    console.warn(
      JSON.stringify({
        event: 'job_fault',
        job: this.#spec?.id,
        verdict: verdict.kind,
        error: String(error),
      }),
    )
    switch (verdict.kind) {
      case 'fail':
        this.#fail(verdict.error)
        return 0
      case 'restart':
        this.#restart(verdict.why)
        return 0
      case 'retry': {
        const faultSinceMs = this.#state.faultSinceMs ?? nowMs
        if (nowMs - faultSinceMs >= verdict.limitMs) {
          this.#fail(verdict.lastError)
          return 0
        }
        const numFaults = this.#state.numFaults + 1
        const events: NewEvent[] =
          numFaults === 1 ? [message(`Waiting: ${verdict.lastError.message}`, 'warn')] : []
        this.#apply({ state: { faultSinceMs, numFaults }, events })
        return backoffMs(numFaults)
      }
    }
  }

  #restart(why: string): void {
    const numRestarts = this.#state.numRestarts + 1
    if (numRestarts > MAX_RESTARTS) {
      this.#fail({
        code: 'build_changed',
        message: 'The model’s build kept changing while the job ran.',
        param: null,
      })
      return
    }
    this.#apply({
      state: { phase: 'preparing', pinned: null, numRestarts, publication: null, repeats: [] },
      forgetTrials: true,
      events: [message(`${why}. The job's trials start again.`, 'warn')],
    })
  }

  #fail(error: JobState['error'] & {}): void {
    this.#apply({
      state: { status: 'failed', phase: 'finished', finishedAtMs: Date.now(), error },
      events: [message(`The job failed: ${error.message}`, 'error')],
    })
  }

  #apply(transition: Transition): void {
    const state = { ...this.#state, ...transition.state, revision: this.#state.revision + 1 }
    this.#store.save(state, transition)
    this.#state = state
    if (transition.forgetTrials === true) {
      this.#trials = []
      this.#foldTrials = []
      this.#search = null
      this.#repeat = null
    }
    if (transition.search !== undefined) this.#search = transition.search
    if (transition.repeat !== undefined) this.#repeat = transition.repeat
    this.#trials.push(...(transition.trials ?? []))
    this.#foldTrials.push(...(transition.foldTrials ?? []))
  }

  /** Copies the job to D1. @returns whether D1 now has its latest revision */
  async #project(): Promise<boolean> {
    const { revision, projectedRevision } = this.#state
    if (this.#spec === null || revision === projectedRevision) return true
    const { projectId, createdAtMs } = this.#spec
    try {
      await upsertJob(this.env.DB, { projectId, object: this.#view(), revision, createdAtMs })
    } catch (error) {
      console.error(
        JSON.stringify({
          event: 'job_projection_failed',
          job: this.#spec.id,
          error: String(error),
        }),
      )
      return false
    }
    this.#state = { ...this.#state, projectedRevision: revision }
    this.#store.save(this.#state)
    return this.#state.revision === revision
  }

  /** Deletes the blobs of a finished job. @returns whether they are gone */
  async #clean(spec: JobSpec): Promise<boolean> {
    if (this.#state.isCleaned) return true
    const keys = [spec.training.blobKey, ...(searchOf(spec).blobKeys?.(spec) ?? [])]
    if (spec.validation !== null) keys.push(spec.validation.blobKey)
    try {
      await this.env.BLOBS.delete(keys)
    } catch (error) {
      console.error(
        JSON.stringify({ event: 'job_clean_failed', job: spec.id, error: String(error) }),
      )
      return false
    }
    this.#state = { ...this.#state, isCleaned: true }
    this.#store.save(this.#state)
    return true
  }

  #view(): FineTuningJob {
    if (this.#spec === null) throw new Error('this object has no job')
    return viewJob(this.#spec, this.#state, this.#progress(this.#spec), Date.now())
  }

  #progress(spec: JobSpec): JobProgress {
    const search = searchOf(spec)
    const numFoldTrials = search.foldSearch?.countTrials(spec) ?? 0
    return {
      trials_done: this.#trials.length,
      trials_total: spec.numTrials,
      best_value: bestValue(this.#trials),
      base_value: this.#trials[0]?.value ?? null,
      guard_trials_done: this.#foldTrials.length,
      guard_trials_total: countGuardFolds({ spec, search }) * numFoldTrials,
    }
  }
}
