import { createApp } from './app.ts'

export { JobObject } from './jobs/job-object.ts'
export { LimitsObject } from './limits/limits-object.ts'

export default createApp()
