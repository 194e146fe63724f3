import type { StringFormat } from './node.ts'

/** How answers write a format: only forms that JavaScript's and Python's parsers also accept. */
type FormatRecord = {
  readonly ebnf: string
  /** Lengths of the shortest and of the longest text, in characters. */
  readonly lengths: readonly [number, number]
  /**
   * Texts of each form that `ebnf` writes. A pattern that admits them all adds nothing to the format.
   */
  readonly samples: readonly string[]
}

const DATE =
  '[1-9] [0-9]{3} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]) ' +
  '| ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") ' +
  '| "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))'
const HOUR_MINUTE = '("0" [0-9] | "1" [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
const TIME = `${HOUR_MINUTE} ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+-] ${HOUR_MINUTE})`
const TIME_SAMPLES = ['23:59:59Z', '00:00:00.1Z', '10:20:30.123456+02:00', '07:08:09-11:30']
const SECONDS = '[0-9]{1,3} "S"'
const MINUTES = `[0-9]{1,3} "M" (${SECONDS})?`
const HOURS = `[0-9]{1,3} "H" (${MINUTES} | ${SECONDS})?`
const SPAN = `"T" (${HOURS} | ${MINUTES} | ${SECONDS})`
const OCTET = '([0-9] | [1-9] [0-9] | "1" [0-9]{2} | "2" [0-4] [0-9] | "25" [0-5])'
/** Longer labels, or hyphens in them, would take seconds to compile. */
const LABEL = '[A-Za-z0-9]{1,16}'
/** Its last label has letters alone, so that none takes it for an address of numbers. */
const DOMAIN = `${LABEL} ("." ${LABEL})? "." [A-Za-z]{2,8}`

function uuid(versions: string): FormatRecord {
  const digits = (count: number): string => `[0-9a-f]{${count}}`
  return {
    ebnf: `${digits(8)} "-" ${digits(4)} "-" [${versions}] ${digits(3)} "-" [89ab] ${digits(3)} "-" ${digits(12)}`,
    lengths: [36, 36],
    samples: [
      `00000000-0000-${versions.at(0)!}000-8000-000000000000`,
      `ffffffff-ffff-${versions.at(-1)!}fff-bfff-ffffffffffff`,
    ],
  }
}

/**
 * The usual forms of RFC 3339 (but years before 1000, 29 February and leap seconds), RFC 9562,
 * RFC 5322, RFC 3986 and RFC 4648.
 */
export const FORMATS: Readonly<Record<StringFormat, FormatRecord>> = {
  date: { ebnf: DATE, lengths: [10, 10], samples: ['1000-01-31', '2999-12-01', '2024-02-28'] },
  time: { ebnf: TIME, lengths: [9, 21], samples: TIME_SAMPLES },
  'date-time': {
    ebnf: `(${DATE}) "T" ${TIME}`,
    lengths: [20, 32],
    samples: TIME_SAMPLES.map((time) => `2024-02-28T${time}`),
  },
  duration: {
    ebnf: `"P" ([0-9]{1,3} "D" (${SPAN})? | ${SPAN})`,
    lengths: [3, 18],
    samples: ['P3D', 'P10DT5M', 'PT100H20M3S', 'PT1S'],
  },
  uuid: uuid('1-8'),
  uuid1: uuid('1'),
  uuid3: uuid('3'),
  uuid4: uuid('4'),
  uuid5: uuid('5'),
  uuid6: uuid('6'),
  uuid7: uuid('7'),
  uuid8: uuid('8'),
  ipv4: {
    ebnf: `${OCTET} "." ${OCTET} "." ${OCTET} "." ${OCTET}`,
    lengths: [7, 15],
    samples: ['0.0.0.0', '255.249.199.10'],
  },
  ipv6: {
    ebnf: '[0-9a-f]{1,4} (":" [0-9a-f]{1,4}){7}',
    lengths: [15, 39],
    samples: ['0:0:0:0:0:0:0:1', '2001:0db8:ffff:a:bc:def:1:ffff'],
  },
  hostname: {
    ebnf: DOMAIN,
    lengths: [4, 42],
    samples: ['a.bc', 'Ab1.2.EfG'],
  },
  email: {
    ebnf: `[A-Za-z0-9_+-]{1,16} ("." [A-Za-z0-9_+-]{1,16})? "@" ${DOMAIN}`,
    lengths: [6, 76],
    samples: ['a@b.cd', '_a+1-.-9@Ab1.2.EfG'],
  },
  uri: {
    ebnf: `"http" "s"? "://" ${DOMAIN} ("/" [A-Za-z0-9_-]{0,24}){0,3}`,
    lengths: [11, 125],
    samples: ['http://a.bc', 'https://Ab.2.EfG//x_-9/'],
  },
  base64: {
    ebnf: '([A-Za-z0-9+/]{4})* ([A-Za-z0-9+/]{2} "==" | [A-Za-z0-9+/]{3} "=")?',
    lengths: [0, Infinity],
    samples: ['', 'AAAA', 'Az+/AA==', '019='],
  },
}

/** Texts of no format. A pattern that admits one of them does not spell out a format. */
export const STRAY_TEXTS = ['', '0', '1', '2', '7', 'a', 'x', 'Z', '2x', 'a b', '1000-']
