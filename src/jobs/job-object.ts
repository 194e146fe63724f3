import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../env.ts'

/** One fine-tuning job: its state, its trials, its events; driven by alarms. */
export class JobObject extends DurableObject<Bindings> {}
