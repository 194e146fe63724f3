import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_INTERVAL_MS = 100

/** Finds different ports on which nothing listens now. */
export async function findFreePorts(host: string, numPorts: number): Promise<readonly number[]> {
  const ports = new Set<number>()
  while (ports.size < numPorts) {
    const port = await tryListen(host, 0)
    if (port === null) throw new Error(`no free port on ${host}`)
    ports.add(port)
  }
  return [...ports]
}

/** Waits until a port is free. @returns false if it is still taken after the timeout */
export async function waitForPort(host: string, port: number, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    if ((await tryListen(host, port)) !== null) return true
    if (Date.now() >= deadline) return false
    await sleep(POLL_INTERVAL_MS)
  }
}

/** Listens for a moment. @returns the port; null if it is taken */
function tryListen(host: string, port: number): Promise<number | null> {
  return new Promise((resolve, reject) => {
    // A client may connect meanwhile. If its connection stayed open, the server would not close.
    const server = createServer((socket) => {
      socket.destroy()
    })
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null)
      else reject(new Error(`cannot listen on ${host}:${port}: ${error.message}`))
    })
    server.listen(port, host, () => {
      const address = server.address()
      server.close(() => {
        resolve(typeof address === 'object' && address ? address.port : null)
      })
    })
  })
}
