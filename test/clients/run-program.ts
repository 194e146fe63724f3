import { spawn } from 'node:child_process'
import { once } from 'node:events'

const MAX_KEPT_CHARS = 16_000

export type Ran = {
  /** Null if a signal ended it, as the timeout does. */
  readonly code: number | null
  readonly stdout: string
  /** The last output of both streams. */
  readonly output: string
}

/** Runs a program to its end, without npm's variables and the settings of OpenAI's clients. */
export async function runProgram(
  [program, ...args]: readonly string[],
  options: {
    readonly cwd: string
    readonly timeoutMs: number
    readonly env: Readonly<Record<string, string>>
  },
): Promise<Ran> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(npm_|OPENAI_)/.test(name))
  const child = spawn(program!, args, {
    cwd: options.cwd,
    timeout: options.timeoutMs,
    killSignal: 'SIGKILL',
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-MAX_KEPT_CHARS)
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, output }
}
