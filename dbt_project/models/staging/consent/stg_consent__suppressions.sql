with source as (
    {{ nextmove.read_raw('suppressions', {
        'suppression_id': 'text',
        'email': 'text',
        'user_id': 'text',
        'kind': 'text',
        'occurred_at': 'timestamp'
    }, optional=['email', 'user_id']) }}
),

renamed as (
    select
        suppression_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_id('user_id') }} as user_id,
        kind,
        occurred_at
    from source
)

select * from renamed
