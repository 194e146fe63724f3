import { test } from 'vitest'
import { createLog, logRequests } from '../../gpu-runner/log.ts'
import type { EngineRequest } from '../../gpu-runner/scheduler/request.ts'

const request = {
  id: 'r1',
  tier: 'flex',
  promptIds: [1, 2, 3],
  numUnfinished: 2,
} as unknown as EngineRequest

function createTestLog(level: 'debug' | 'info' | 'error' | 'silent') {
  const lines: unknown[] = []
  const log = createLog(
    level,
    (line) => {
      expectOneLine(line)
      lines.push(JSON.parse(line))
    },
    () => new Date(0),
  )
  return { log, lines }
}

function expectOneLine(line: string): void {
  if (line.includes('\n')) throw new Error('an event is one line')
}

test('a log has one JSON object per line, at its level and above', ({ expect }) => {
  const { log, lines } = createTestLog('info')
  log('debug', 'small')
  log('info', 'call_refused', { message: 'two\nlines', stack: undefined })
  expect(lines).toEqual([
    {
      time: '1970-01-01T00:00:00.000Z',
      level: 'info',
      event: 'call_refused',
      message: 'two\nlines',
    },
  ])
  const silent = createTestLog('silent')
  silent.log('error', 'loud')
  expect(silent.lines).toEqual([])
})

test('the end of a request is logged with its severity', ({ expect }) => {
  const { log, lines } = createTestLog('debug')
  const listener = logRequests(log)
  listener({ kind: 'submitted', request })
  listener({ kind: 'decode_step', numRows: 1, ms: 7 })
  listener({ kind: 'preempted', numRows: 2 })
  listener({ kind: 'ended', request, how: 'expired', ms: 12.4 })
  listener({ kind: 'ended', request, how: 'failed', ms: 12.6 })
  expect(lines).toMatchObject([
    { level: 'debug', event: 'request_submitted', request_id: 'r1', tier: 'flex', arms: 2 },
    { level: 'debug', event: 'rows_preempted', rows: 2 },
    { level: 'warn', event: 'request_ended', how: 'expired', prompt_tokens: 3, ms: 12 },
    { level: 'error', event: 'request_ended', how: 'failed', ms: 13 },
  ])
})
