with source as (
    {{ nextmove.read_engine('agent_outcomes', {
        'agent': 'text',
        'event': 'text',
        'per': 'text',
        'weight': 'double precision',
        'window_hours': 'integer'
    }) }}
),

renamed as (
    select
        agent,
        event,
        per,
        weight,
        window_hours
    from source
)

select * from renamed
