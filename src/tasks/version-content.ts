import type { NewVersion } from '../db/versions.ts'
import { sha256Hex } from '../storage/digest.ts'

/** The content of a version: everything that its digest covers. */
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

/** The SHA-256 of a version's canonical form. */
export async function digestOfVersion(content: VersionContent): Promise<string> {
  // The order of the keys is part of the canonical form.
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
