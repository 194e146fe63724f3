import { test } from 'vitest'
import { digestOf, encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import type { Geometry } from '../../../adapters/rotation/rotation.ts'
import { AdapterStore } from '../../../gpu-runner/adapters/adapter-store.ts'

const GEOMETRY: Geometry = { numLayers: 1, numHeads: 1, headDim: 4 }
const MODEL_DIGEST = 'a'.repeat(64)

test('the adapters used last are named first, and deleted ones not at all', async ({ expect }) => {
  const store = new AdapterStore(GEOMETRY, MODEL_DIGEST, 8)
  const digests: string[] = []
  for (const angle of [0.1, 0.2, 0.3, 0.4]) {
    const bytes = encodeAdapter({
      modelDigest: MODEL_DIGEST,
      scope: 'generated',
      rotation: {
        geometry: GEOMETRY,
        layers: new Map([[0, { angles: Float32Array.of(angle, 0) }]]),
      },
      dtype: 'F16',
    })
    const digest = await digestOf(bytes)
    store.put(digest, bytes)
    digests.push(digest)
  }
  const [a, b, c, d] = digests as [string, string, string, string]
  expect(store.recentlyUsed(8)).toEqual([d, c, b, a])
  const end = store.lease([{ digest: a, weight: 1 }], 'generated')
  expect(store.recentlyUsed(2)).toEqual([a, d])
  // It is in use and stays until its lease ends, but no request can lease it any more.
  store.delete(a)
  expect(store.recentlyUsed(8)).toEqual([d, c, b])
  end()
  expect(store.recentlyUsed(8)).toEqual([d, c, b])
})
