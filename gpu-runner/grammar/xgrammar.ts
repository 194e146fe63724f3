import { readFileSync } from 'node:fs'
import Module, { createRequire } from 'node:module'
import type * as XGrammar from '@mlc-ai/web-xgrammar'

type CommonJsModule = { readonly exports: unknown; _compile(source: string, path: string): void }

/**
 * Loads the library. As published (0.1.27) it is a UMD file in a package marked as ES modules, which
 * Node can neither import nor require, so it is compiled here as a CommonJS module.
 */
export function loadXGrammar(): typeof XGrammar {
  const file = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar')
  const module = new Module(file) as unknown as CommonJsModule
  module._compile(readFileSync(file, 'utf8'), file)
  return module.exports as typeof XGrammar
}
