with decisions as (
    {{ nextmove.read_engine('decisions', {'decision_id': 'text', 'reasons': nextmove.type_codes()}) }}
)

{{ nextmove.unnest_codes('decisions', 'decision_id', 'reasons') }}
