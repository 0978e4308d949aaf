// A saga whose instances have ids of one's own: any text, such as a loan's number.
import { contracts, defineSaga, defineService, handle, ignore, Type } from 'sagabox'

const lending = contracts('lending', { correlateBy: 'loan' })
const shelf = contracts('shelf', { correlateBy: 'loan' })
const Loan = Type.String({ minLength: 1, maxLength: 60 })

export const BookWanted = lending.event('BookWanted', { loan: Loan, title: Type.String() })
export const FetchBook = shelf.command('FetchBook', { loan: Loan, title: Type.String() })
export const BookFetched = shelf.event('BookFetched', { loan: Loan })

export const loan = defineSaga(
  'loan',
  { startedBy: BookWanted, handles: [BookFetched] },
  ({ send }) => ({
    initial: 'fetching',
    states: {
      fetching: {
        entry: send(FetchBook, (book) => ({ loan: book.loan, title: book.title })),
        on: { BookFetched: 'lent' },
        after: { '1h': 'missing' }
      },
      lent: { tags: 'end', on: { BookFetched: ignore('lent before') } },
      missing: { tags: 'end', on: { BookFetched: 'lent' } }
    }
  })
)

const fetchBook = handle(FetchBook, (book) => BookFetched({ loan: book.loan }))

export const services = [
  defineService('lending', { sagas: [loan] }),
  defineService('shelf', { handlers: [fetchBook] })
]
