import { Server } from 'node:net'
import { join } from 'node:path'
import { LOCAL_HOST } from './worker-options.ts'

/** What Miniflare is told instead of a port. Nothing can connect to it. */
const NO_PORT = 0

// eslint-disable-next-line @typescript-eslint/unbound-method -- called with its server below
const listenAnywhere = Server.prototype.listen as (this: Server, ...args: unknown[]) => Server

/**
 * From now on every server of this process listens on a unix socket of a folder, whatever address
 * it asks for: the first on `loopback`, later ones on `loopback-1` and so on. Miniflare opens a
 * server that writes and reads files for whoever asks, and has no option for where it listens.
 * @param folder only its owner may enter it
 */
export function listenPrivately(folder: string): void {
  let numServers = 0
  Server.prototype.listen = function (this: Server, ...args: unknown[]): Server {
    const path = join(folder, numServers === 0 ? 'loopback' : `loopback-${numServers}`)
    numServers += 1
    this.address = () => ({ address: LOCAL_HOST, family: 'IPv4', port: NO_PORT })
    const onListening = args.findLast((arg) => typeof arg === 'function')
    return listenAnywhere.call(this, ...(onListening ? [path, onListening] : [path]))
  }
}

/** Opens a port in spite of `listenPrivately`. @throws {Error} it is taken */
export function listenOnPort(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    listenAnywhere.call(server, port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
