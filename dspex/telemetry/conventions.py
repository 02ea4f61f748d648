"""The names of OpenTelemetry's conventions for generative AI, and our own beside them: what traces and metrics say.

They are those of ``open-telemetry/semantic-conventions-genai`` of November 2026 (commits 002c8a6 and 004902b). All
``gen_ai.*`` is in development there, and may change; so every name is in this table, and in no other place.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "https://opentelemetry.io/schemas/1.42.0"

# -- operations, with which the name of a span begins ------------------------------------------------------------------

CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"
EXECUTE_TOOL: Final = "execute_tool"
INVOKE_AGENT: Final = "invoke_agent"
INVOKE_WORKFLOW: Final = "invoke_workflow"

# -- attributes --------------------------------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
TEMPERATURE: Final = "gen_ai.request.temperature"
TOP_P: Final = "gen_ai.request.top_p"
TOP_K: Final = "gen_ai.request.top_k"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
SEED: Final = "gen_ai.request.seed"
STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
CHOICE_COUNT: Final = "gen_ai.request.choice.count"
STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 (no password)
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# Content, which is written only if somebody asks for it.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"

# Our own.
CALL_ID: Final = "dspex.call_id"
PROGRAM: Final = "dspex.program"
VERSION: Final = "dspex.version"
ARM: Final = "dspex.arm"
ATTEMPT: Final = "dspex.attempt"
CACHE_HIT: Final = "dspex.cache_hit"
OUTCOME: Final = "dspex.outcome"
FEEDBACK_SOURCE: Final = "dspex.feedback.source"

#: Attributes with content.
CONTENT: Final = frozenset((INPUT_MESSAGES, OUTPUT_MESSAGES, TOOL_ARGUMENTS, TOOL_RESULT))

# -- events ------------------------------------------------------------------------------------------------------------

INFERENCE_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVALUATION_RESULT: Final = "gen_ai.evaluation.result"

# -- metrics: name, unit, buckets --------------------------------------------------------------------------------------

_SECONDS = tuple(0.01 * 2**n for n in range(14))
OPERATION_DURATION: Final = ("gen_ai.client.operation.duration", "s", _SECONDS)
FIRST_CHUNK: Final = ("gen_ai.client.operation.time_to_first_chunk", "s", _SECONDS)
OUTPUT_CHUNK: Final = ("gen_ai.client.operation.time_per_output_chunk", "s", _SECONDS)
TOOL_DURATION: Final = ("gen_ai.execute_tool.duration", "s", _SECONDS)
TOKEN_USAGE: Final = ("gen_ai.client.token.usage", "{token}", tuple(float(4**n) for n in range(14)))
AGENT_DURATION: Final = ("gen_ai.invoke_agent.duration", "s", tuple(0.1 * 2**n for n in range(13)))
WORKFLOW_DURATION: Final = (
    "gen_ai.workflow.duration",
    "s",
    (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0),
)

#: The metrics of an attempt at a model, a tool, an agent and a workflow.
METRICS: Final = (
    OPERATION_DURATION,
    FIRST_CHUNK,
    OUTPUT_CHUNK,
    TOOL_DURATION,
    TOKEN_USAGE,
    AGENT_DURATION,
    WORKFLOW_DURATION,
)

#: What the conventions call those whose models they are, where DSPy has another word.
PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "openai-chat": "openai",
    "openai-responses": "openai",
    "vertex": "gcp.vertex_ai",
    "vertex-express": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}

#: The errors that ``error.type`` names; whatever else fails is `OTHER`.
ERRORS: Final = frozenset(
    (
        "AdapterParseError",
        "ContextWindowExceededError",
        "LMAuthError",
        "LMBillingError",
        "LMConfigurationError",
        "LMInvalidRequestError",
        "LMNotConfiguredError",
        "LMProviderError",
        "LMRateLimitError",
        "LMServerError",
        "LMStreamAssemblyError",
        "LMTimeoutError",
        "LMTransportError",
        "LMUnexpectedError",
        "LMUnsupportedFeatureError",
        "LMUnsupportedModelError",
        "Unavailable",
        "Busy",
        "timeout",
    )
)
OTHER: Final = "_OTHER"
