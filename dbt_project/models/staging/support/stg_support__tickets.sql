with source as (
    {{ nextmove.read_raw('support_tickets', {
        'ticket_id': 'text',
        'requester_email': 'text',
        'subject': 'text',
        'kind': 'text',
        'status': 'text',
        'sentiment': 'double precision',
        'created_at': 'timestamp',
        'solved_at': 'timestamp'
    }, optional=['subject', 'sentiment', 'solved_at']) }}
),

renamed as (
    select
        ticket_id,
        {{ nextmove.clean_email('requester_email') }} as email,
        subject,
        kind,
        status,
        sentiment,
        created_at,
        solved_at
    from source
)

select * from renamed
