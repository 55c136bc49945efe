with source as (
    {{ nextmove.read_raw('consents', {
        'consent_id': 'text',
        'email': 'text',
        'phone': 'text',
        'user_id': 'text',
        'channel': 'text',
        'purpose': 'text',
        'status': 'text',
        'source': 'text',
        'occurred_at': 'timestamp',
        'expires_at': 'timestamp'
    }, optional=['email', 'phone', 'user_id', 'purpose', 'source', 'expires_at']) }}
),

renamed as (
    select
        consent_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_phone('phone') }} as phone,
        {{ nextmove.clean_id('user_id') }} as user_id,
        channel,
        coalesce(purpose, 'marketing') as purpose,
        status,
        source,
        occurred_at,
        expires_at
    from source
)

select * from renamed
