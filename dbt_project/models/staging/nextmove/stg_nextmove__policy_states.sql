with source as (
    {{ nextmove.read_engine('policy_states', {
        'agent': 'text',
        'version': 'text',
        'policy': 'text',
        'n_decisions': 'bigint',
        'state': nextmove.type_bytes(),
        'is_current': 'boolean',
        'as_of': 'timestamp'
    }) }}
),

renamed as (
    select
        agent,
        version,
        policy,
        n_decisions,
        state,
        is_current,
        as_of
    from source
)

select * from renamed
