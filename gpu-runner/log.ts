import type { EngineListener } from './engine/engine-events.ts'

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>
/** Writes one event to the log. */
export type Log = (level: Exclude<LogLevel, 'silent'>, event: string, fields?: LogFields) => void

/** A log of one JSON object on each line: time, level, event, then the event's own fields. */
export function createLog(
  minLevel: LogLevel,
  write: (line: string) => void,
  now: () => Date = () => new Date(),
): Log {
  const least = LOG_LEVELS.indexOf(minLevel)
  return (level, event, fields = {}) => {
    if (LOG_LEVELS.indexOf(level) < least) return
    write(JSON.stringify({ time: now().toISOString(), level, event, ...fields }))
  }
}

/** A log that writes nothing. */
export const noLog: Log = () => undefined

/** Logs how requests begin and end. Single steps are not logged, only counted by the metrics. */
export function logRequests(log: Log): EngineListener {
  return (event) => {
    switch (event.kind) {
      case 'submitted': {
        const { id, tier, promptIds, numUnfinished } = event.request
        const prompt_tokens = promptIds.length
        log('debug', 'request_submitted', {
          request_id: id,
          tier,
          prompt_tokens,
          arms: numUnfinished,
        })
        return
      }
      case 'ended': {
        const { id, tier, promptIds } = event.request
        const level = {
          finished: 'info',
          aborted: 'info',
          expired: 'warn',
          failed: 'error',
        } as const
        log(level[event.how], 'request_ended', {
          request_id: id,
          tier,
          how: event.how,
          prompt_tokens: promptIds.length,
          ms: Math.round(event.ms),
        })
        return
      }
      case 'preempted':
      case 'resumed':
        log('debug', `rows_${event.kind}`, { rows: event.numRows })
        return
      case 'decode_step':
      case 'prefill_chunk':
      case 'first_token':
      case 'next_token':
    }
  }
}
