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

  it('refuses contents that the template alters, since their author cannot be told', ({
    expect,
  }) => {
    const raises = new ChatTemplate('{{ messages[0].content | upper }}')
    expect(() => raises.segments([{ role: 'user', content: 'a' }])).toThrow(/alters/)
  })
})
