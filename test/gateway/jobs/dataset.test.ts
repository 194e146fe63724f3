import { describe, it } from 'vitest'
import { buildDatasets } from '../../../src/jobs/dataset.ts'
import type { NumberedExample } from '../../../src/files/read-examples.ts'

const OPTIONS = {
  instructions: null,
  position: 'before',
  labels: null,
  objective: null,
  grader: null,
} as const

const example = (
  text: string,
  answer: string,
  line = 1,
  system: string | null = null,
  kind: NumberedExample['example']['kind'] = 'label',
) =>
  ({
    line,
    example: { kind, system, messages: [{ role: 'user', content: text }], answer },
  }) satisfies NumberedExample
const target = (text: string, answer: string, line = 1) =>
  example(text, answer, line, null, 'target')
const chat = (text: string, answer: string, line = 1) =>
  example(text, answer, line, null, 'message')

describe('a job’s examples', () => {
  it('with labels that look alike give a warning that names the pair', ({ expect }) => {
    const warned = (...labels: string[]): string[] => {
      const lines = labels.map((label, i) => example(`text ${i}`, label, i + 1))
      const built = buildDatasets(lines, null, OPTIONS)
      if (!built.ok) throw new Error(built.error.message)
      return built.value.warnings.map(({ code, message }) => {
        expect(code).toBe('similar_labels')
        return message
      })
    }
    const rest = ', and each is learnt as a label of its own: '
    const end = '. If one is meant, write it one way.'
    expect(warned('Yes', 'yes', 'no')).toEqual([
      `1 pair of labels looks alike${rest}"Yes" and "yes"${end}`,
    ])
    expect(warned('caf\u00e9', 'cafe\u0301', 'tea')).toEqual([
      `1 pair of labels looks alike${rest}"caf\\u00e9" and "cafe\\u0301"${end}`,
    ])
    expect(warned('x', 'x\u200b', 'X')).toEqual([
      `2 pairs of labels look alike${rest}"x" and "x\\u200b"; "x" and "X"${end}`,
    ])
    expect(warned('a b', 'a\u00a0b')[0]).toContain('"a b" and "a\\u00a0b"')
    // Not alike: accents, signs and digits tell them apart.
    expect(warned('cafe', 'caf\u00e9', '1', '1.', 'C', 'C++')).toEqual([])
  })

  it('become prompts in the task’s frame and indices of labels', ({ expect }) => {
    const built = buildDatasets(
      [example('a', 'x'), example('b', ' y\n'), example('c', 'x')],
      null,
      {
        ...OPTIONS,
        instructions: 'Say x or y.',
        position: 'after',
      },
    )
    expect(built).toEqual({
      ok: true,
      value: {
        objective: 'label',
        frame: { instructions: 'Say x or y.', position: 'after' },
        labels: ['x', 'y'],
        training: {
          labels: ['x', 'y'],
          examples: [
            { messages: [{ role: 'user', content: 'a\n\nSay x or y.' }], label: 0 },
            { messages: [{ role: 'user', content: 'b\n\nSay x or y.' }], label: 1 },
            { messages: [{ role: 'user', content: 'c\n\nSay x or y.' }], label: 0 },
          ],
        },
        validation: null,
        groups: [0, 1, 2],
        warnings: [],
      },
    })
  })

  it('keep the given order of labels', ({ expect }) => {
    const built = buildDatasets([example('a', 'x'), example('b', 'y')], [example('c', 'z')], {
      ...OPTIONS,
      labels: ['z', 'y', 'x'],
    })
    expect(built).toMatchObject({
      ok: true,
      value: {
        labels: ['z', 'y', 'x'],
        training: { examples: [{ label: 2 }, { label: 1 }] },
        validation: { examples: [{ label: 0 }] },
      },
    })
  })

  it('drop the file’s system messages where the job has instructions', ({ expect }) => {
    const built = buildDatasets([example('a', 'x', 1, 'one'), example('b', 'y', 2, 'two')], null, {
      ...OPTIONS,
      instructions: 'Mine.',
    })
    expect(built).toMatchObject({
      ok: true,
      value: {
        training: { examples: [{ messages: [{ role: 'system', content: 'Mine.' }, {}] }, {}] },
      },
    })
  })

  it('that cannot be one task are refused with the line', ({ expect }) => {
    const x = example('a', 'x')
    const y = example('b', 'y', 2)
    const reasonOf = (...args: Parameters<typeof buildDatasets>) => {
      const built = buildDatasets(...args)
      return built.ok ? null : [built.error.reason, built.error.param, built.error.message]
    }
    const differ = reasonOf([x, example('b', 'y', 7, 'S')], null, OPTIONS)
    expect(differ?.slice(0, 2)).toEqual(['systems_differ', 'training_file'])
    expect(differ?.[2]).toContain('line 7')
    expect(reasonOf([x, y], [example('c', 'x', 1, 'S')], OPTIONS)?.slice(0, 2)).toEqual([
      'systems_differ',
      'validation_file',
    ])
    const unknown = reasonOf([x, y], [x, example('c', 'z', 4)], OPTIONS)
    expect(unknown?.slice(0, 2)).toEqual(['unknown_label', 'validation_file'])
    expect(unknown?.[2]).toContain('line 4')
    expect(reasonOf([x, x], null, OPTIONS)?.[0]).toBe('too_few_labels')
    expect(reasonOf([x, example('b', 'y'.repeat(257))], null, OPTIONS)?.[0]).toBe('too_many_labels')
    const labelled = (count: number) =>
      Array.from({ length: count }, (_, i) => example(`input ${i}`, `label ${i}`, i + 1))
    const label = { ...OPTIONS, objective: 'label' as const }
    expect(reasonOf(labelled(200), null, label)).toBeNull()
    const many = reasonOf(labelled(201), null, label)
    expect(many?.slice(0, 2)).toEqual(['too_many_labels', 'training_file'])
    expect(many?.[2]).toContain('201 different answers, and at most 200 may be labels')
  })
})

describe('a job’s objective', () => {
  const objectiveOf = (...args: Parameters<typeof buildDatasets>) => {
    const built = buildDatasets(...args)
    return built.ok ? built.value.objective : [built.error.reason, built.error.message]
  }

  it('is texts if the lines have targets, in the task’s frame', ({ expect }) => {
    const built = buildDatasets(
      [target('a', ' One day. '), target('a', 'Then.'), target('b', 'No.')],
      null,
      {
        ...OPTIONS,
        instructions: 'Go on.',
      },
    )
    const system = { role: 'system', content: 'Go on.' }
    expect(built).toMatchObject({
      ok: true,
      value: {
        objective: 'target',
        labels: [],
        groups: [0, 0, 2],
        warnings: [{ code: 'duplicate_inputs' }],
        training: {
          examples: [
            { messages: [system, { role: 'user', content: 'a' }], target: 'One day.' },
            { messages: [system, { role: 'user', content: 'a' }], target: 'Then.' },
            { messages: [system, { role: 'user', content: 'b' }], target: 'No.' },
          ],
        },
      },
    })
  })

  it('is labels in chats whose answers recur, and texts in others', ({ expect }) => {
    const recurring = [chat('a', 'x'), chat('b', 'y'), chat('c', 'x'), chat('d', 'y ')]
    expect(objectiveOf(recurring, null, OPTIONS)).toBe('label')
    const various = [chat('a', 'x'), chat('b', 'y'), chat('c', 'z')]
    expect(objectiveOf(various, null, OPTIONS)).toBe('target')
    expect(objectiveOf(various, null, { ...OPTIONS, labels: ['x', 'y', 'z'] })).toBe('label')
    expect(objectiveOf(various, null, { ...OPTIONS, objective: 'label' })).toBe('label')
    expect(objectiveOf(recurring, null, { ...OPTIONS, objective: 'target' })).toBe('target')
    const long = 'y'.repeat(257)
    expect(objectiveOf([chat('a', long), chat('b', long)], null, OPTIONS)).toBe('target')
  })

  it('is refused, naming lines, where lines hold something else', ({ expect }) => {
    const targets = [target('a', 'One.', 1), target('b', 'Two.', 5)]
    const labels = [example('a', 'x', 1), example('b', 'y', 2)]
    expect(objectiveOf(targets, null, { ...OPTIONS, objective: 'label' })).toEqual([
      'answers_differ',
      expect.stringContaining('a target in line 1, 5'),
    ])
    expect(objectiveOf(labels, null, { ...OPTIONS, objective: 'target' })).toEqual([
      'answers_differ',
      expect.stringContaining('a label in line 1, 2'),
    ])
    expect(objectiveOf(targets, labels, OPTIONS)).toEqual([
      'answers_differ',
      expect.stringContaining('a label in line 1, 2'),
    ])
    expect(
      objectiveOf([chat('a', 'x'), chat('b', 'y')], null, {
        ...OPTIONS,
        objective: 'target',
        labels: ['x', 'y'],
      }),
    ).toEqual(['labels_of_targets', expect.stringContaining('method.rotation.labels')])
  })
})
