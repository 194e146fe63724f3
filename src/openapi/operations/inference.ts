/** Routes that ask models, and the tokenizer. */
import { compareSchema } from '../../protocol/arcana/compare.ts'
import { experimentSchema, experimentsQuerySchema } from '../../protocol/arcana/experiment.ts'
import { chatRequestSchema, UNREAD_OF_CHATS } from '../../protocol/openai/chat-completions.ts'
import {
  completionRequestSchema,
  UNREAD_OF_COMPLETIONS,
} from '../../protocol/openai/completions.ts'
import {
  responseRequestSchema,
  UNREAD_OF_RESPONSES,
} from '../../protocol/openai/response-request.ts'
import {
  detokenizeRequestSchema,
  detokenizeResponseSchema,
  tokenizeRequestSchema,
  tokenizeResponseSchema,
  tokenizerInfoQuerySchema,
  tokenizerInfoSchema,
} from '../../protocol/tokenizer.ts'
import {
  chatCompletion,
  chatCompletionChunk,
  comparison,
  completion,
  experiment,
  experimentSummary,
} from '../answers/chat.ts'
import { deletedOf, pageOf } from '../answers/common.ts'
import { response, responseEvent } from '../answers/response.ts'
import { json, RUNNER_ERRORS, type Operation } from '../operation.ts'

const tag = 'Answers'
const errors = [404, 429, ...RUNNER_ERRORS] as const

export const inference: readonly Operation[] = [
  {
    method: 'POST',
    path: '/v1/chat/completions',
    id: 'createChatCompletion',
    tag,
    summary: 'Answer a chat',
    description:
      'Answers with the base model, or with a task that `model` (`MODEL:TASK`) or `x-task` names. ' +
      'With `stream`, each event is a chunk and the last one is `[DONE]`; an error amid a stream is an event of its own, without a `[DONE]`.',
    headers: ['x-task', 'x-arcana-timeout', 'x-arcana-choice'],
    body: {
      kind: 'json',
      name: 'CreateChatCompletion',
      schema: chatRequestSchema,
      dropsNulls: true,
      unread: UNREAD_OF_CHATS,
    },
    answer: {
      ...json('ChatCompletion', chatCompletion),
      event: { name: 'ChatCompletionChunk', schema: chatCompletionChunk },
    },
    errors,
  },
  {
    method: 'POST',
    path: '/v1/completions',
    id: 'createCompletion',
    tag,
    summary: 'Continue or score given text',
    description:
      'There is no template and no frame. A task needs `rotate_from`, the first token that it rotates.',
    headers: ['x-task', 'x-arcana-timeout'],
    body: {
      kind: 'json',
      name: 'CreateCompletion',
      schema: completionRequestSchema,
      dropsNulls: true,
      unread: UNREAD_OF_COMPLETIONS,
    },
    answer: {
      ...json('Completion', completion),
      event: { name: 'Completion', schema: completion },
    },
    errors,
  },
  {
    method: 'POST',
    path: '/v1/responses',
    id: 'createResponse',
    tag,
    summary: 'Answer a conversation of items',
    description: 'Nothing is stored: an answer is given once.',
    headers: ['x-task', 'x-arcana-timeout', 'x-arcana-choice'],
    body: {
      kind: 'json',
      name: 'CreateResponse',
      schema: responseRequestSchema,
      dropsNulls: true,
      unread: UNREAD_OF_RESPONSES,
    },
    answer: {
      ...json('Response', response),
      event: { name: 'ResponseEvent', schema: responseEvent },
    },
    errors,
  },
  {
    method: 'POST',
    path: '/v1/compare',
    id: 'createComparison',
    tag,
    summary: 'Answer one chat under several selections',
    description: 'All arms have one frame, one seed and one computation of the prompt.',
    headers: ['x-arcana-timeout', 'x-arcana-choice'],
    body: { kind: 'json', name: 'CreateComparison', schema: compareSchema, dropsNulls: true },
    answer: json('Comparison', comparison),
    errors,
  },
  {
    method: 'POST',
    path: '/v1/experiments',
    id: 'createExperiment',
    tag: 'Experiments',
    summary: 'Answer a labelled file under several selections',
    description:
      'Compares the accuracy of each arm with that of the first one, on the same rows, at tier `flex`. ' +
      'The answer comes when all rows are answered.',
    headers: ['x-arcana-timeout'],
    body: { kind: 'json', name: 'CreateExperiment', schema: experimentSchema, dropsNulls: true },
    links: {
      getExperiment: { id: '$response.body#/id' },
      deleteExperiment: { id: '$response.body#/id' },
    },
    answer: json('Experiment', experiment),
    errors,
  },
  {
    method: 'GET',
    path: '/v1/experiments',
    id: 'listExperiments',
    tag: 'Experiments',
    summary: 'List experiments, without their rows',
    query: experimentsQuerySchema,
    answer: json('ExperimentList', pageOf(experimentSummary)),
  },
  {
    method: 'GET',
    path: '/v1/experiments/:id',
    id: 'getExperiment',
    tag: 'Experiments',
    summary: 'Get an experiment',
    answer: json('Experiment', experiment),
  },
  {
    method: 'DELETE',
    path: '/v1/experiments/:id',
    id: 'deleteExperiment',
    tag: 'Experiments',
    summary: 'Delete an experiment',
    answer: json('DeletedExperiment', deletedOf('arcana.experiment')),
  },
  {
    method: 'POST',
    path: '/tokenize',
    id: 'tokenize',
    tag: 'Tokenizer',
    summary: 'Encode a text',
    body: { kind: 'json', name: 'Tokenize', schema: tokenizeRequestSchema, dropsNulls: true },
    answer: json('Tokens', tokenizeResponseSchema),
    errors,
  },
  {
    method: 'POST',
    path: '/detokenize',
    id: 'detokenize',
    tag: 'Tokenizer',
    summary: 'Decode tokens',
    body: { kind: 'json', name: 'Detokenize', schema: detokenizeRequestSchema, dropsNulls: true },
    answer: json('DecodedText', detokenizeResponseSchema),
    errors,
  },
  {
    method: 'GET',
    path: '/tokenizer_info',
    id: 'getTokenizer',
    tag: 'Tokenizer',
    summary: 'Describe the tokenizer',
    query: tokenizerInfoQuerySchema,
    answer: json('TokenizerInfo', tokenizerInfoSchema),
    errors: [404, 429, ...RUNNER_ERRORS],
  },
]
