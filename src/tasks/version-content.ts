import type { NewVersion } from '../db/versions.ts'
import { sha256Hex } from '../storage/digest.ts'

/** What a version is: all that its digest covers. */
export type VersionContent = Pick<
  NewVersion,
  | 'model'
  | 'modelDigest'
  | 'adapterDigest'
  | 'scope'
  | 'layers'
  | 'instructions'
  | 'position'
  | 'labels'
  | 'bias'
  | 'temperature'
  | 'minConfidence'
  | 'fallbackLabel'
>

/** SHA-256 of a version's canonical form. */
export async function digestOfVersion(content: VersionContent): Promise<string> {
  // The keys are written in this order everywhere: it is the canonical form.
  const canonical: VersionContent = {
    model: content.model,
    modelDigest: content.modelDigest,
    adapterDigest: content.adapterDigest,
    scope: content.scope,
    layers: content.layers,
    instructions: content.instructions,
    position: content.position,
    labels: content.labels,
    bias: content.bias,
    temperature: content.temperature,
    minConfidence: content.minConfidence,
    fallbackLabel: content.fallbackLabel,
  }
  return sha256Hex(new TextEncoder().encode(JSON.stringify(canonical)))
}
