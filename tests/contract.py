"""Where each fact of `ollama-api.md` that was seen on the wire (✔) is shown, or why it is not.

`SHOWN`: section, fact, tests that fail without it. `DIFFERENT`: where the bridge answers otherwise on purpose, and what
shows that it does. `NOT_SHOWN`: what an emulator cannot show. `GOTCHAS`: the rows of §9. A test is named by its file,
without `test_` and `.py`, and itself without `test_`; `test_contract.py` sees that it exists.

Beside these, `golden::as_the_real_server` and `v1_responses_golden::as_the_real_server` compare replies of a real
server byte for byte where `../shared/golden` is present.
"""

SHOWN = [
    # ---------------------------------------------------------------------- 0.1 how requests are decoded
    ("0.1", "Content-Type is ignored", "contract_bodies::headers_do_not_change_how_a_body_is_read"),
    ("0.1", "keys in any case, unknown keys, the last of two, nulls, the first value only",
     "contract_bodies::what_a_real_server_bears_is_borne"),
    ("0.1", "a body of null is an empty request", "contract_bodies::null_is_an_empty_request"),
    ("0.1", "wrong types, byte order mark, gzip: Go's words", "contract_bodies::a_body_that_is_none_is_told_in_gos_words"),
    ("0.1", "zstd on /v1 alone", "contract_bodies::compression_is_zstd_and_for_v1_alone v1_chat::a_compressed_body"),
    ("0.1", "invalid UTF-8 and lone surrogates become U+FFFD",
     "bad_input::text_that_is_not_utf8_becomes_replacement_characters gojson::only_the_first_value_counts_and_text_is_repaired"),
    ("0.1", "base64 as Go takes it", "gojson::corrupt_base64_is_located_as_go_locates_it contract_native::messages_are_taken_as_they_come"),
    # ---------------------------------------------------------------------- 0.2 how responses are encoded
    ("0.2", "compact, sorted maps, five escapes, raw UTF-8",
     "contract_native::text_is_escaped_as_go_does_and_otherwise_as_it_is gojson::escaping_changes_no_meaning"),
    ("0.2", "times with a zone and at most nine digits; whole nanoseconds",
     "contract_cli::all_that_a_model_can_say_is_read surface_ollama_models::times_are_written_as_go_writes_them"),
    ("0.2", "content types, line ends and lengths of each surface",
     "contract_bodies::the_reply_is_framed_as_its_surface_frames_it contract_v1::streams_are_asked_for"),
    ("0.2", "no Server header, connections stay", "daemon::routing_is_gins bad_input::small_answers_say_their_length_and_the_connection_stays"),
    ("0.2", "copy and delete: 200, no body, no Content-Type", "manage::copies_and_deletions_are_answered_with_nothing"),
    # ---------------------------------------------------------------------- 0.3 routing
    ("0.3", "404 in plain text, paths mind their case", "contract_routes::what_there_is_not"),
    ("0.3", "405 with Allow", "contract_routes::a_route_knows_its_methods_and_no_other"),
    ("0.3", "301 and 307 of slashes", "contract_routes::slashes_and_dots_are_redirected"),
    ("0.3", "query strings are ignored", "contract_routes::a_query_is_ignored"),
    # ---------------------------------------------------------------------- 1 routes
    ("1.1", "every route and its methods", "contract_routes::every_route_is_here contract_routes::a_route_knows_its_methods_and_no_other"),
    ("1.1", "HEAD of /, version and tags alone", "contract_routes::head_is_get_without_its_body"),
    ("1.1", "blobs by HEAD and chunked POST", "blobs::a_blob_is_taken_once_and_found_again blobs::a_chunked_upload_is_streamed"),
    ("1.2", "tags: keys, order, newest first, context_length in details",
     "contract_cli::list surface_ollama_models::the_bytes_of_tags_ps_and_version"),
    ("1.2", "no models: []", "contract_native::no_models_are_an_empty_list_natively_and_null_on_v1"),
    ("1.3", "ps: all keys, the longest first, for ever is far away", "contract_cli::ps_and_stop contract_native::how_long_a_model_is_kept"),
    ("1.4", "show: keys in order, model_info an object, name or model, modelfile, parameters",
     ("contract_cli::show surface_ollama_models::show_has_the_keys_of_a_real_server_in_its_order "
     "surface_ollama_decode::show_takes_model_or_name")),
    ("1.4", "Copilot's basename", "contract_native::copilot_reads_the_name_that_it_asked_for"),
    ("1.6", "generate: keys in order, model as requested, response always there",
     "contract_examples::an_example contract_names::every_spelling_finds_the_model_and_comes_back_as_it_was"),
    ("1.7", "chat: logprobs before the metrics", "contract_examples::an_example"),
    ("1.8", "roles are not checked, content is a string or null",
     "contract_native::messages_are_taken_as_they_come wire_errors::refusals"),
    ("1.8", "tool calls: no type, index, arguments an object in order",
     "contract_native::a_call_says_what_it_says_natively wire_errors::refusals"),
    ("1.9", "embed: keys, [], invalid input type, unit length, dimensions",
     ("embed::one_text_becomes_a_vector_of_unit_length embed::an_empty_input_loads_the_model embed::dimensions_cut_and_scale_again "
     "embed_faults::a_bad_request_is_answered_in_ollamas_words")),
    ("1.10", "embeddings: not normalised, [] of nothing",
     "embed::the_older_route_gives_the_vector_as_it_came contract_native::embedding_nothing_loads"),
    ("1.11", "pull: its lines, the last alone, and the text of what does not exist",
     "manage::the_progress_of_a_pull manage::a_pull_of_what_is_not_there"),
    ("1.12", "push of what is not here", "manage::the_progress_of_a_push"),
    ("1.13", "create: its lines", "manage::the_progress_of_a_create contract_cli::create_from_a_file_and_save"),
    ("1.14", "copy, delete, digests", "manage::what_is_refused_changes_nothing blobs::what_is_no_digest_is_refused"),
    ("1.15", "account, sign-out, recommendations, empty body of a search",
     "manage::what_is_refused_changes_nothing manage::what_is_told_about_ollama_com contract_cli::signing_in_and_the_rest_of_the_menu"),
    # ---------------------------------------------------------------------- 2 streaming
    ("2.1", "NDJSON by default, whole lines, none blank; single objects are never streamed",
     "contract_cli::all_that_a_model_can_say_is_read contract_native::no_stream_where_there_is_one_object"),
    ("2.2", "chunks, and thinking before content", "contract_examples::an_example clients_ollama::thinks"),
    ("2.3", "the last chunk: reason, metrics, context", "contract_examples::an_example surface_ollama_encode::why_it_ended"),
    ("2.4", "tool calls in lines of their own", "contract_examples::an_example"),
    ("2.5", "stream:false is the sum of the stream",
     "daemon::a_streamed_answer_and_its_whole_say_the_same surface_ollama_encode::nothing_is_lost_and_the_whole_is_the_fold_of_the_lines"),
    ("2.6", "errors before and after the first chunk, and their content types",
     "wire_errors::a_format_that_is_none contract_examples::an_example upstream_faults::a_fault_is_told_with_its_remedy"),
    ("2.6", "a client that leaves cancels", "leaving::the_provider_is_left_when_the_client_leaves"),
    # ---------------------------------------------------------------------- 3 special requests
    ("3.1", "load and unload", "wire_errors::unloading wire_errors::what_is_fine contract_native::a_load_is_checked_and_an_unload_is_not"),
    ("3.2", "keep_alive: what it takes and what it means", "wire_errors::refusals wire_errors::what_is_fine contract_native::how_long_a_model_is_kept"),
    ("3.3", "raw excludes the rest and has no context", "wire_errors::refusals context::raw_replies_have_none"),
    ("3.4", "format", "wire_errors::a_format_that_is_none wire_errors::what_is_fine"),
    ("3.5", "think: what it takes, 400 of who cannot; /v1/messages does without", "wire_errors::refusals contract_v1::what_is_borne"),
    ("3.6", "options: types, unknown ones, nulls", "wire_errors::refusals wire_errors::what_is_fine surface_ollama_options::options_take_their_types"),
    ("3.7", "no check of images; results of tools", "contract_native::messages_are_taken_as_they_come"),
    ("3.8", "_debug_render_only", "wire_errors::showing_the_prompt contract_examples::an_example"),
    ("3.9", "top_logprobs, before the model is looked for", "wire_errors::refusals"),
    ("3.10", "embedding a text that is too long", "embed::a_text_that_must_not_be_cut_is_an_error"),
    # ---------------------------------------------------------------------- 4 errors
    ("4.1", "references to models, endpoint by endpoint",
     ("wire_errors::refusals contract_bodies::null_is_an_empty_request contract_names::an_unknown_model_is_told_in_the_endpoints_own_words "
     "contract_names::no_name_beyond_the_grammar_is_looked_for contract_names::two_sources_exclude_each_other "
     "contract_names::no_odd_name_is_made_or_removed manage::what_is_refused_changes_nothing")),
    ("4.2", "bodies", "contract_bodies::a_body_that_is_none_is_told_in_gos_words wire_errors::refusals"),
    ("4.3", "abilities and options", "wire_errors::refusals contract_v1::what_the_model_cannot_do surface_ollama_decode::a_model_lacks_several_things"),
    ("4.3", "a template that is broken", "manage_models::a_request_brings_its_own_template"),
    ("4.4", "a runner that fails; blobs", "upstream_faults::a_fault_is_told_with_its_remedy blobs::other_content_is_refused_and_not_kept"),
    # ---------------------------------------------------------------------- 5 names
    ("5", "grammar, limits, case, echo, shortest form",
     ("names::every_spelling_has_one_shortest_form names::what_ollama_refuses_is_refused "
     "contract_names::every_spelling_finds_the_model_and_comes_back_as_it_was contract_names::no_name_beyond_the_grammar_is_looked_for "
     "contract_names::lists_show_the_shortest_name_always_with_its_tag")),
    # ---------------------------------------------------------------------- 6 security
    ("6.1", "CORS, then Host, before 404, 405 and redirects", "contract_routes::the_guard_stands_before_every_route"),
    ("6.2", "CORS", ("guard::pages_of_this_machine_may_ask guard::other_pages_may_not guard::a_page_of_the_same_origin_is_no_matter_of_cors "
     "guard::a_preflight_is_answered_as_gin_answers_it guard::origins_of_the_operator guard::a_star_alone_lets_every_page_in "
     "guard::an_origin_gin_refuses_is_refused guard::options_without_an_origin")),
    ("6.3", "Host", "guard::hosts_of_this_machine guard::other_hosts_are_dns_rebinding guard::bound_to_the_network_no_host_is_checked"),
    ("6.4", "OLLAMA_HOST", "config::ollama_host_is_read_as_ollama_reads_it"),
    ("6.5", "keys are ignored where none is configured", "contract_bodies::headers_do_not_change_how_a_body_is_read"),
    # ---------------------------------------------------------------------- 7 /v1
    ("7.0", "envelope, who has a charset and who a line end, zstd",
     ("contract_examples::the_envelopes_of_errors contract_v1::what_cannot_be_translated contract_v1::what_the_model_cannot_do "
     "contract_bodies::compression_is_zstd_and_for_v1_alone")),
    ("7.1", "chat completions: requests, replies, streams",
     ("contract_v1::what_cannot_be_translated contract_v1::what_is_borne contract_examples::an_example surface_openai_encode::the_chunks_of_a_chat "
     "surface_openai_encode::a_chat_in_one_object surface_openai_encode::reasons")),
    ("7.2", "completions", ("surface_openai_encode::the_chunks_of_a_completion surface_openai_encode::every_chunk_of_a_completion_has_a_usage_or_none "
     "surface_openai_encode::a_completion_in_one_object v1_chat::no_prompt_loads_the_model")),
    ("7.3", "embeddings", "embed::openais_dialect_as_numbers_and_as_base64 embed::an_empty_text_is_embedded_where_it_is_meant contract_v1::what_cannot_be_translated"),
    ("7.4", "models", ("contract_names::one_model_of_v1_by_any_name contract_names::lists_show_the_shortest_name_always_with_its_tag "
     "contract_native::no_models_are_an_empty_list_natively_and_null_on_v1")),
    ("7.5", "responses", ("v1_responses_golden::as_the_real_server surface_responses_encode::any_reply_is_a_well_formed_stream "
     "contract_v1::what_cannot_be_translated v1_responses::a_load_asks_nobody")),
    ("7.6", "a transcription is a multipart form", "v1_chat::nobody_listens"),
    ("7.7", "messages", ("contract_examples::an_example contract_v1::what_cannot_be_translated contract_v1::what_is_borne "
     "surface_messages_encode::the_bytes_of_a_real_server surface_messages_encode::the_whole_message_of_a_real_server surface_messages_encode::why_it_stopped")),
    # ---------------------------------------------------------------------- 8 the command line
    ("8", "its requests, in order", ("contract_cli::version contract_cli::list contract_cli::show contract_cli::run_with_a_prompt "
     "contract_cli::run_of_a_model_that_thinks contract_cli::run_of_an_embedding_model contract_cli::run_on_a_terminal "
     "contract_cli::run_of_what_is_not_there contract_cli::ps_and_stop contract_cli::cp_and_rm contract_cli::create_from_a_file_and_save "
     "contract_cli::signing_in_and_the_rest_of_the_menu manage::the_sequence_of_ollama_rm")),
    ("8.1", "what its reader demands", "contract_cli::all_that_a_model_can_say_is_read surface_ollama_models::nothing_is_null_anywhere"),
    ("11", "the self-tests", "contract_routes::head_is_get_without_its_body contract_routes::the_guard_stands_before_every_route contract_examples::an_example"),
    ("12", "the worked examples", ("contract_examples::an_example contract_examples::the_envelopes_of_errors "
     "contract_cli::list contract_cli::ps_and_stop manage::the_progress_of_a_pull")),
]  # fmt: skip

DIFFERENT = [
    ("0.1", "bodies are bounded: 413", "bad_input::100_megabytes_are_refused_unread v1_chat::a_body_that_is_too_large"),
    ("0.1", "a corrupt zstd body is told in the envelope of its surface", "v1_chat::a_compressed_body v1_responses::a_body_that_is_no_zstd"),
    ("0.2", "modified_at and expires_at are UTC; replies in one object always say their length",
     "surface_ollama_models::times_are_written_as_go_writes_them contract_bodies::the_reply_is_framed_as_its_surface_frames_it"),
    ("0.3", "a bug is told with a request id, not by an empty 500", "unexpected::before_the_first_byte_it_is_a_500"),
    ("1.1", "/v1/messages/count_tokens exists", "counting::tokens_are_counted_by_the_provider_or_estimated"),
    ("1.1", "/v1/models/ns%2Fmodel is found", "contract_names::one_model_of_v1_by_any_name"),
    ("1.4", "no tensors; parameters in a fixed order", "surface_ollama_models::show_has_the_keys_of_a_real_server_in_its_order"),
    ("1.8", "unknown keywords of a tool's schema reach the provider", "surface_ollama_decode::tools_keep_their_schema"),
    ("1.9", "a model that only chats is refused, for no vector would come", "embed_faults::models_that_do_not_embed_are_named"),
    ("1.10", "names are looked up whatever their case here too", "contract_names::every_spelling_finds_the_model_and_comes_back_as_it_was"),
    ("1.12", "there is nowhere to push to", "manage::the_progress_of_a_push"),
    ("1.13", "no model is made from files, and no stub of ollama.com's", "manage::what_is_refused_changes_nothing"),
    ("1.15", "no account is claimed; no search", "manage::what_is_refused_changes_nothing"),
    ("2.3", "context is a conversation, not tokens", "context::two_turns_across_a_restart"),
    ("2.4", "calls are never in the last line", "golden::as_the_real_server contract_examples::an_example"),
    ("2.6", "failures are told with model, provider and remedy; 502 where it was not us", "upstream_faults::a_fault_is_told_with_its_remedy"),
    ("3.5", "absent, the model decides; true where it was asked for", "surface_ollama_decode::think_reaches_a_thinking_model_as_it_was_said"),
    ("3.10", "the provider says what is too long", "upstream_faults::a_fault_is_told_with_its_remedy"),
    ("5", "no model of ours may end in -cloud, with a colon or without", "config::names_that_clients_take_for_ollamas_cloud_are_refused"),
    ("6.5", "client keys may be demanded", "guard::a_client_without_one_is_not guard::each_dialect_is_refused_in_its_own_way"),
    ("7.0", "502 and others are told in the envelope too", "failures::statuses v1_chat::a_failure_before_the_first_word_has_its_status"),
    ("7.1", "a failure in the middle is an event", "surface_openai_encode::a_failure_in_the_middle_is_told v1_chat::a_failure_in_the_middle_is_raised"),
    ("7.1", "max_completion_tokens, tool_choice, parallel_tool_calls are honoured, n above 1 is refused",
     "v1_chat::the_newer_limit_and_its_end v1_chat::a_choice_of_tools_reaches_the_provider surface_openai_decode::faults_of_a_chat"),
    ("7.1", "parts of a message stay together; temperature is the provider's own unless it is said",
     "surface_openai_decode::a_text_stays_with_its_images v1_chat::temperature_is_the_providers_own_unless_it_is_set"),
    ("7.2", "log probabilities are told", "surface_openai_encode::log_probabilities_of_a_completion"),
    ("7.5", "text beside calls is kept, a cut reply says so, a failure is told", "v1_responses_golden::as_the_real_server"),
    ("7.7", "content is [] where nothing was said, thinking has a signature, pings while it is silent, errors are events",
     ("surface_messages_encode::nothing_said_is_an_empty_list_and_no_null surface_messages_encode::thinking_is_a_block_with_an_empty_signature "
     "surface_messages_encode::a_heartbeat_is_a_ping_behind_the_start v1_messages::a_provider_that_breaks_off_is_an_error_in_the_stream")),
]  # fmt: skip

NOT_SHOWN = [
    ("1.3", "size_vram of a part on the GPU", "nothing is on a GPU"),
    ("1.4", "projector_info, tensors, verbose arrays", "there is no model file"),
    (
        "1.5",
        "template of a request as the model's own",
        "providers have theirs; ours words the prompt, and manage_models shows it",
    ),
    (
        "1.13",
        "GGUF, adapters, quantisation, stubs with info",
        "there is no model file, and nothing of ollama.com's",
    ),
    ("2.4", "calls in the last line", "a choice: the other shape is the safer"),
    ("3.6", "num_predict bounded to ten times num_ctx", "the limit is the provider's"),
    (
        "3.10",
        "the oldest messages dropped, shift",
        "the context is the provider's, and it says what is too long",
    ),
    ("4.3", "image generation, mllama", "there are no such models"),
    ("4.4", "queue full, cancelled while queued, a runner that died", "there is neither queue nor runner"),
    ("4.5", "cloud and remote models", "nothing is forwarded to ollama.com: such names are unknown"),
    ("6.2", "the server that panics at start", "ours refuses the configuration in words"),
    ("7.5", "web_search orchestration", "ollama.com's service"),
    ("7.6", "a transcription", "no provider is asked to listen"),
    ("7.7", "web_search_* tools", "ollama.com's service: what is not a function is passed over"),
    ("12", "C, J, stub 429 and 401", "see §2.4 and §4.5"),
]

GOTCHAS = {
    1: "wire_errors::what_is_fine contract_v1::streams_are_asked_for",
    2: "contract_native::no_stream_where_there_is_one_object",
    3: "contract_cli::all_that_a_model_can_say_is_read",
    4: "heartbeat::silence_before_the_first_word_is_filled_and_nothing_is_lost",
    5: "contract_cli::list",
    6: "contract_names::lists_show_the_shortest_name_always_with_its_tag",
    7: "contract_names::every_spelling_finds_the_model_and_comes_back_as_it_was",
    8: "contract_names::an_unknown_model_is_told_in_the_endpoints_own_words",
    9: "contract_bodies::null_is_an_empty_request",
    10: "contract_routes::what_there_is_not contract_routes::a_route_knows_its_methods_and_no_other",
    11: "contract_routes::a_route_knows_its_methods_and_no_other",
    12: "contract_routes::a_route_knows_its_methods_and_no_other",
    13: "contract_routes::slashes_and_dots_are_redirected",
    14: "contract_native::a_call_says_what_it_says_natively wire_errors::refusals",
    15: "contract_native::a_call_says_what_it_says_natively contract_examples::an_example",
    16: "contract_native::a_call_says_what_it_says_natively",
    17: "contract_native::a_call_says_what_it_says_natively",
    18: "contract_examples::an_example",
    19: "surface_ollama_encode::no_duration_vanishes_and_a_missing_usage_is_replaced surface_ollama_models::nothing_is_null_anywhere",
    20: "contract_cli::all_that_a_model_can_say_is_read",
    21: "contract_cli::list",
    22: "contract_cli::show",
    23: "contract_cli::show manage::what_is_refused_changes_nothing",
    24: "contract_native::copilot_reads_the_name_that_it_asked_for",
    25: "wire_errors::refusals",
    26: "wire_errors::refusals contract_v1::what_is_borne",
    27: "wire_errors::refusals",
    28: "wire_errors::unloading",
    29: "wire_errors::refusals",
    30: "wire_errors::refusals",
    31: "contract_native::messages_are_taken_as_they_come",
    32: "contract_bodies::a_body_that_is_none_is_told_in_gos_words",
    33: "contract_bodies::headers_do_not_change_how_a_body_is_read",
    34: "contract_bodies::what_a_real_server_bears_is_borne",
    35: "guard::other_pages_may_not contract_routes::the_guard_stands_before_every_route",
    36: "guard::a_page_of_the_same_origin_is_no_matter_of_cors",
    37: "guard::other_hosts_are_dns_rebinding guard::bound_to_the_network_no_host_is_checked",
    38: "manage::a_pull_of_what_is_not_there",
    39: "manage::the_progress_of_a_pull",
    40: "manage::copies_and_deletions_are_answered_with_nothing",
    41: "nobody is ever signed in: 401, manage::what_is_refused_changes_nothing",
    42: "no account is claimed: 503, manage::what_is_refused_changes_nothing",
    43: "there are no stubs: upstream_faults::a_fault_is_told_with_its_remedy",
    44: "contract_native::text_is_escaped_as_go_does_and_otherwise_as_it_is",
    45: "contract_examples::an_example",
    46: "contract_examples::an_example",
    47: "contract_examples::an_example surface_openai_encode::every_chunk_of_a_completion_has_a_usage_or_none",
    48: "contract_examples::an_example",
    49: "they are honoured: v1_chat::a_choice_of_tools_reaches_the_provider v1_chat::the_newer_limit_and_its_end",
    50: "the provider's own: v1_chat::temperature_is_the_providers_own_unless_it_is_set",
    51: "some of them help: surface_messages_encode::thinking_is_a_block_with_an_empty_signature",
    52: "it does here: counting::tokens_are_counted_by_the_provider_or_estimated",
    53: "they are here: v1_chat::a_failure_in_the_middle_is_raised v1_responses::a_provider_that_fails_in_mid_stream",
    54: "contract_routes::what_there_is_not contract_names::one_model_of_v1_by_any_name",
    55: "contract_native::no_models_are_an_empty_list_natively_and_null_on_v1",
    56: "the model decides: surface_ollama_decode::think_reaches_a_thinking_model_as_it_was_said",
    57: "contract_v1::what_is_borne contract_v1::what_the_model_cannot_do",
    58: "config::names_that_clients_take_for_ollamas_cloud_are_refused contract_names::an_unknown_model_is_told_in_the_endpoints_own_words",
    59: "contract_cli::show",
    60: "contract_cli::show",
    61: "embed::one_text_becomes_a_vector_of_unit_length embed::the_older_route_gives_the_vector_as_it_came",
    62: "contract_native::embedding_nothing_loads embed::an_empty_text_is_embedded_where_it_is_meant",
    63: "contract_cli::show contract_cli::list",
    64: "there are none: contract_cli::ps_and_stop",
    65: "contract_native::how_long_a_model_is_kept",
    66: "contract_bodies::compression_is_zstd_and_for_v1_alone",
    67: "blobs::a_chunked_upload_is_streamed contract_bodies::a_body_in_chunks_is_read_as_any_other",
    68: "wire_errors::showing_the_prompt",
}
"""Row of §9 to what shows the correct behaviour; in front of a colon, why ours is another."""
