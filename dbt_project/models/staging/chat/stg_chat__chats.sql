with source as (
    {{ nextmove.read_raw('chats', {
        'chat_id': 'text',
        'email': 'text',
        'anonymous_id': 'text',
        'topic': 'text',
        'started_at': 'timestamp',
        'ended_at': 'timestamp'
    }, optional=['email', 'anonymous_id', 'topic', 'ended_at']) }}
),

renamed as (
    select
        chat_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_id('anonymous_id') }} as anonymous_id,
        topic,
        started_at,
        ended_at
    from source
)

select * from renamed
