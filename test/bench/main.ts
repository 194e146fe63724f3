/** `npm run bench -- NAME [options]` runs NAME.ts of this folder; without a name it lists them. */
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'

/** The export of a benchmark's module. It prints one JSON object per figure, and maybe a table. */
export type Bench = {
  /** @param args the arguments after the name */
  readonly run: (args: readonly string[]) => Promise<void>
}

const EXTENSION = '.ts'
const OWN_NAME = 'main'

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(EXTENSION))
  .map((file) => file.slice(0, -EXTENSION.length))
  .filter((name) => name !== OWN_NAME)
const [name, ...args] = process.argv.slice(2)

if (name === undefined) {
  console.log(`npm run bench -- NAME, one of: ${names.join(', ')}`)
} else if (!names.includes(name)) {
  console.error(`no bench "${name}"; there are: ${names.join(', ')}`)
  process.exitCode = 2
} else {
  console.log(JSON.stringify({ bench: name, machine: describeMachine() }))
  const bench = (await import(`./${name}${EXTENSION}`)) as Bench
  await bench.run(args)
}

/** The machine. Its load is measured before the benchmark; above 0, other programs run too. */
function describeMachine() {
  const ort = new URL('../../node_modules/onnxruntime-node/package.json', import.meta.url)
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    load: Math.round(loadavg()[0]! * 100) / 100,
    node: process.versions.node,
    onnxruntime: (JSON.parse(readFileSync(ort, 'utf8')) as { version: string }).version,
  }
}
