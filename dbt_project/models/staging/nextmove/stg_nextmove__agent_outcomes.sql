with source as (
    {{ nextmove.read_engine('agent_outcomes', {
        'agent': 'text',
        'event': 'text',
        'per': 'text',
        'weight': 'double precision',
        'window_hours': 'integer',
        'sequence_credit': 'double precision',
        'spent_on': 'text'
    }) }}
),

renamed as (
    select
        agent,
        event,
        per,
        weight,
        window_hours,
        coalesce(sequence_credit, 0) as sequence_credit,
        spent_on
    from source
)

select * from renamed
