/** A thread that says when it is ready, sends one body when told to, and hands back the answer. */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'

const { url, headers, body } = workerData as {
  readonly url: string
  readonly headers: Record<string, string>
  readonly body: Uint8Array<ArrayBuffer>
}
const told = once(parentPort!, 'message')
parentPort!.postMessage('ready')
await told
const answer = await fetch(url, { method: 'POST', headers, body }).then(
  async (response) => `${response.status} ${await response.text()}`,
  (error: unknown) => String(error),
)
parentPort!.postMessage(answer)
parentPort!.close()
