/** A thread that sends one body and hands back the answer. */
import { parentPort, workerData } from 'node:worker_threads'

const { url, headers, body } = workerData as {
  readonly url: string
  readonly headers: Record<string, string>
  readonly body: Uint8Array<ArrayBuffer>
}
const answer = await fetch(url, { method: 'POST', headers, body }).then(
  async (response) => `${response.status} ${await response.text()}`,
  (error: unknown) => String(error),
)
parentPort!.postMessage(answer)
