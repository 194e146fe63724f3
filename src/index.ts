import { createApp } from './app.ts'

export { LineAnswerer } from './batches/answer-line.ts'
export { BatchObject } from './batches/batch-object.ts'
export { JobObject } from './jobs/job-object.ts'
export { LimitsObject } from './limits/limits-object.ts'

export default createApp()
