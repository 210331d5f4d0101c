"""Gemini's words, and what each comes to: a test holds these tables to the SDK's types."""

from collections.abc import Mapping
from typing import Final, Literal

from ollama_bridge.events import FinishReason

UNSPECIFIED: Final = "FINISH_REASON_UNSPECIFIED"
"""What a server writes that writes down every field: no reason at all."""

FINISH_REASONS: Final[Mapping[str, FinishReason | Literal["broken"]]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "OTHER": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_OTHER": "refusal",
    "IMAGE_RECITATION": "refusal",
    "NO_IMAGE": "refusal",
    "ESCALATION": "refusal",
    "PUP_LIMITED_DISABLED": "refusal",
    "MODEL_ARMOR": "refusal",
    UNSPECIFIED: "broken",
    "MALFORMED_FUNCTION_CALL": "broken",
    "UNEXPECTED_TOOL_CALL": "broken",
    "TOO_MANY_TOOL_CALLS": "broken",
    "MISSING_THOUGHT_SIGNATURE": "broken",
    "MALFORMED_RESPONSE": "broken",
}
"""`finishReason` to ours. One that is not here is a stop, and the log says so."""

NOT_SAID: Final = "it gave no further explanation"

EXPLANATIONS: Final[Mapping[str, str]] = {
    "SAFETY": "its safety filter stopped it",
    "RECITATION": "the answer would have recited a protected source",
    "LANGUAGE": "it does not support the language",
    "OTHER": NOT_SAID,
    "BLOCKLIST": "the text contains a blocked term",
    "PROHIBITED_CONTENT": "the content may be prohibited",
    "SPII": "the text may contain sensitive personal information",
    "IMAGE_SAFETY": "the safety filter for images stopped it",
    "IMAGE_PROHIBITED_CONTENT": "the content of an image may be prohibited",
    "IMAGE_RECITATION": "an image would have shown a protected source",
    "IMAGE_OTHER": "something is wrong with an image",
    "NO_IMAGE": "it was to make an image, and made none",
    "ESCALATION": "the request has to be looked at by somebody",
    "PUP_LIMITED_DISABLED": "Google has limited the account behind the API key",
    "MODEL_ARMOR": "the Model Armor of the Google Cloud project stopped it",
    "JAILBREAK": "the prompt looks like an attempt to break its rules",
    "BLOCKED_REASON_UNSPECIFIED": NOT_SAID,
}
"""Each `finishReason` that is a refusal, and each `blockReason` of a prompt, in words for a client that sees no other."""

PARTS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(
        # Read; what is said about the part beside them; and what Google's own tools are doing
        "text thought thoughtSignature functionCall videoMetadata mediaResolution mediaProcessing partMetadata "
        "speechMetadata documentMetadata spreadsheetMetadata audioMetadata toolCall toolResponse".split(),
        False,
    ),
    # What no client of ours asks for, and none could show
    **dict.fromkeys(
        "executableCode codeExecutionResult inlineData fileData functionResponse audioTranscription".split(),
        True,
    ),
}
"""What a part may hold, and whether the log is to tell of it where it holds no text; it does of what is not known."""
