import { RunnerPool } from './dispatch/runner-pool.ts'
import { LeasePool } from './limits/lease-pool.ts'
import { configOf, type Bindings, type Config } from './env.ts'

/** What an isolate keeps between requests. */
export type Services = {
  readonly config: Config
  readonly runners: RunnerPool
  readonly leases: LeasePool
}

const known = new WeakMap<Config, Services>()

export function servicesOf(env: Bindings): Services {
  const config = configOf(env)
  const services = known.get(config) ?? {
    config,
    runners: new RunnerPool(config.runnerUrls, config.runnerSecret),
    leases: new LeasePool(),
  }
  known.set(config, services)
  return services
}
