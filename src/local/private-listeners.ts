import { Server } from 'node:net'
import { join } from 'node:path'
import { LOCAL_HOST } from './worker-options.ts'

/** Miniflare is told this port. Nothing can connect to it. */
const NO_PORT = 0

// eslint-disable-next-line @typescript-eslint/unbound-method -- called with its server below
const listenAnywhere = Server.prototype.listen as (this: Server, ...args: unknown[]) => Server

/**
 * Makes every server of this process listen on a unix socket in a folder, whatever address it asks
 * for: the first on `loopback`, later ones on `loopback-1` and so on. Miniflare opens a server that
 * reads and writes files for anyone who asks, and no option says where it listens.
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

/** Listens on a port in spite of `listenPrivately`. @throws {Error} the port is taken */
export function listenOnPort(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    listenAnywhere.call(server, port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
