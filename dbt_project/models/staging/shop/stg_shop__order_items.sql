with source as (
    {{ nextmove.read_raw('order_items', {
        'order_id': 'text',
        'product_id': 'text',
        'line': 'integer',
        'quantity': 'integer',
        'price_cents': 'bigint'
    }, optional=['price_cents']) }}
),

renamed as (
    select
        order_id,
        product_id,
        line,
        quantity,
        price_cents
    from source
)

select * from renamed
