import tseslint from 'typescript-eslint'

/** Forbids imports whose path matches `regex` in some files, to keep the dependency directions. */
const forbid = (files, regex, message, ignores = []) => ({
  files,
  ignores,
  rules: { 'no-restricted-imports': ['error', { patterns: [{ regex, message }] }] },
})

export default tseslint.config(
  { ignores: ['node_modules', '.arcana', '.wrangler', 'dist', 'migrations', '*.config.js'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: {
        project: [
          './tsconfig.core.json',
          './tsconfig.worker.json',
          './tsconfig.node.json',
          './tsconfig.gateway-test.json',
        ],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  forbid(
    ['adapters/**'],
    String.raw`^(?!\.)|/(src|gpu-runner|test)/`,
    'adapters/ is the pure core and imports nothing outside itself',
  ),
  forbid(
    ['src/protocol/**'],
    String.raw`^(?!\.|zod$)|^(\.\./)+(?!\.|openai|arcana|key-scopes|sse|runner|response-format|tokenizer|tools)`,
    'src/protocol imports zod only',
  ),
  forbid(
    ['gpu-runner/**'],
    '/src/(?!protocol/)',
    'gpu-runner imports adapters and src/protocol only',
  ),
  forbid(['src/**'], '/gpu-runner/', 'the gateway never imports the runner', ['src/protocol/**']),
)
