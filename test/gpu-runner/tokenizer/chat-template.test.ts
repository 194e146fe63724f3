import { describe, it } from 'vitest'
import { ChatTemplate } from '../../../gpu-runner/tokenizer/chat-template.ts'

const PLAIN = '{% for m in messages %}<{{ m.role }}>{{ m.content }}</{% endfor %}{{ bos_token }}'

describe('ChatTemplate', () => {
  it('marks what each side wrote', ({ expect }) => {
    const template = new ChatTemplate(PLAIN, { bos_token: 'B' })
    expect(
      template.segments([
        { role: 'user', content: 'one' },
        { role: 'assistant', content: '<user>' },
      ]),
    ).toEqual([
      { text: '<user>', trusted: true },
      { text: 'one', trusted: false },
      { text: '</<assistant>', trusted: true },
      { text: '<user>', trusted: false },
      { text: '</B', trusted: true },
    ])
  })

  it('renders a content that a template repeats or leaves out', ({ expect }) => {
    const twice = new ChatTemplate('{{ messages[0].content }}|{{ messages[0].content }}')
    expect(
      twice.segments([
        { role: 'user', content: 'a' },
        { role: 'user', content: 'b' },
      ]),
    ).toEqual([
      { text: 'a', trusted: false },
      { text: '|', trusted: true },
      { text: 'a', trusted: false },
    ])
  })

  it('serves templates that trim contents', ({ expect }) => {
    const trims = new ChatTemplate('<{{ messages[0].content | trim }}>')
    expect(trims.segments([{ role: 'user', content: ' a\n' }])).toEqual([
      { text: '<', trusted: true },
      { text: 'a', trusted: false },
      { text: '>', trusted: true },
    ])
  })

  it('refuses contents that the template alters, because it cannot locate them', ({ expect }) => {
    const raises = new ChatTemplate('{{ messages[0].content | upper }}')
    expect(() => raises.segments([{ role: 'user', content: 'a' }])).toThrow(/alters/)
  })

  it('shows a speaker’s name where the template knows names', ({ expect }) => {
    const known = new ChatTemplate(
      '{% for m in messages %}{{ m.role }}{% if m.name %}={{ m.name }}{% endif %}: {{ m.content }};{% endfor %}',
    )
    const named = { role: 'user', name: 'bob', content: 'hi' } as const
    expect(known.render([named])).toBe('user=bob: hi;')
    expect(known.render([{ role: 'user', content: 'hi' }])).toBe('user: hi;')
    expect(new ChatTemplate(PLAIN).render([named])).toBe('<user>hi</')
    expect(known.segments([named], [], (text) => text === 'bob')).toEqual([
      { text: 'user=', trusted: true },
      { text: 'bob', trusted: false },
      { text: ': ', trusted: true },
      { text: 'hi', trusted: false },
      { text: ';', trusted: true },
    ])
  })
})
