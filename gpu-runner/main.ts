#!/usr/bin/env node
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { readConfig, type RunnerConfig } from './config.ts'
import { createLog, logRequests } from './log.ts'
import { CATALOGUE } from './model/catalogue.ts'
import { digestOfOwnFile } from './model/own-file.ts'
import { modelDirectory, pullModel } from './model/pull.ts'
import { openBackend } from './ort/index.ts'
import { openRunner } from './runner.ts'
import { createRunnerServer } from './server/server.ts'

/** Models and builds are readable only by the user who runs this. */
const OWNER_ONLY_UMASK = 0o077
/** How long running answers have to end once the runner is told to stop. */
const SHUTDOWN_MS = 2_000

const USAGE = `arcana-runner [--profile]

Serves one base model to an Arcana gateway. Settings are environment variables: see docs/operations.md.

  --profile   print where the engine's time went, on SIGUSR2 and at the end
  --help      print this`

async function main(): Promise<void> {
  const { values: flags } = parseArgs({
    options: { profile: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  })
  if (flags.help) {
    console.log(USAGE)
    return
  }
  const modelDir = modelDirectory(process.env)
  const config = readConfig(process.env, modelDir)
  if (config.exitWithStdin) {
    process.stdin.on('end', exitAtOnce)
    process.stdin.on('error', exitAtOnce)
    process.stdin.resume()
  }
  const { ggufPath, modelDigest } = await findModel(config, modelDir)
  const { backend, fallbackReason } = openBackend(config.ortBackend)
  if (fallbackReason !== null) {
    console.error(
      `runner: ONNX Runtime's JS binding is in use, 2-4 times slower than its C API: ${fallbackReason}`,
    )
  }
  const runner = await openRunner(backend, {
    ...config,
    ggufPath,
    modelDigest,
    decodeFormat: 'block',
  })
  const log = createLog(config.logLevel, (line) => {
    console.error(line)
  })
  runner.engine.listen(logRequests(log))
  if (flags.profile) {
    const say = (): void => {
      console.error(runner.executor.profile.format())
    }
    process.on('SIGUSR2', say)
    process.on('exit', say)
  }
  const identity = {
    runnerId: config.runnerId,
    secret: config.secret,
    modelSlug: config.modelSlug,
    modelDigest,
    ortBackend: backend.name,
  }
  const server = createRunnerServer(runner, identity, log)
  server.listen(config.port, config.host, () => {
    const { port } = server.address() as AddressInfo
    console.log(
      JSON.stringify({
        event: 'ready',
        runner_id: config.runnerId,
        port,
        model: config.modelSlug,
        model_digest: modelDigest,
        build_digest: runner.context.buildDigest,
        ort_backend: backend.name,
      }),
    )
  })
  server.on('error', (error) => {
    console.error(`runner: ${error.message}`)
    process.exit(1)
  })
  const stop = (): void => {
    server.close(() => process.exit(0))
    setTimeout(() => process.exit(0), SHUTDOWN_MS).unref()
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}

/**
 * Ends this process without the clean-up of native libraries. The process that started this one may be
 * gone, and then nobody would end this one if that clean-up hung. Our own exit handlers still run.
 */
function exitAtOnce(): void {
  process.on('exit', () => process.kill(process.pid, 'SIGKILL'))
  process.exit()
}

async function findModel(
  { modelSlug, modelFile }: RunnerConfig,
  modelDir: string,
): Promise<{ readonly ggufPath: string; readonly modelDigest: string }> {
  if (modelFile !== undefined) {
    return { ggufPath: modelFile, modelDigest: await digestOfOwnFile(modelFile, modelSlug) }
  }
  const entry = CATALOGUE.get(modelSlug)
  if (!entry) {
    throw new Error(`there is no model ${modelSlug}; known are ${[...CATALOGUE.keys()].join(', ')}`)
  }
  const ggufPath = await pullModel(entry, { directory: modelDir })
  return { ggufPath, modelDigest: entry.sha256 }
}

process.umask(OWNER_ONLY_UMASK)
main().catch((error: unknown) => {
  console.error(`runner: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
})
