with source as (
    {{ nextmove.read_raw('orders', {
        'order_id': 'text',
        'shop_customer_id': 'text',
        'email': 'text',
        'user_id': 'text',
        'currency': 'text',
        'status': 'text',
        'amount_cents': 'bigint',
        'discount_cents': 'bigint',
        'ordered_at': 'timestamp'
    }, optional=['email', 'user_id', 'currency', 'discount_cents']) }}
),

renamed as (
    select
        order_id,
        {{ nextmove.clean_id('shop_customer_id') }} as shop_customer_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_id('user_id') }} as user_id,
        currency,
        status,
        amount_cents,
        coalesce(discount_cents, 0) as discount_cents,
        ordered_at
    from source
)

select * from renamed
